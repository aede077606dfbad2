// Weights of whole numbers: W = (code - zero) · scale, with a scale and a zero point for each group
// of columns of a row. Their sources: AutoAWQ's WQLinear_GEMM, AutoGPTQ's QuantLinear, and
// compressed-tensors' pack_to_int32.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "format/stored_matrix.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"
#include "tensor/quantize.h"

namespace ridge::format {

namespace {

uint32_t word_at(const FolderTensor& tensor, int64_t index) {
  uint32_t word;
  std::memcpy(&word, tensor.bytes.data() + index * 4, sizeof(word));
  return word;
}

// The closest type of GGUF's. In blocks of 32 with one scale each:
//   Q4_0 has codes of four bits about 8, Q5_0 codes from -16 to 15, so that every difference of a
//   code and a zero point fits, Q8_0 codes from -128 to 127.
// Where a block would have several scales, the values are quantised anew as Q8_0; where rows are no
// whole blocks they become F16.
DType dtype_of_codes(int64_t columns, int64_t group, int bits, bool is_symmetric, bool is_ordered) {
  if (columns % block_elements != 0) return DType::f16;
  if (is_ordered || (group < columns && group % block_elements != 0)) return DType::q8_0;
  if (bits == 8) return DType::q8_0;
  return is_symmetric ? DType::q4_0 : DType::q5_0;
}

class CodedMatrix : public StoredMatrix {
 public:
  void write(std::span<const int64_t> rows, std::byte* out) const final {
    std::vector<uint8_t> codes(rows.size() * static_cast<size_t>(columns_));
    read_codes(rows, codes.data());
    const size_t size = row_bytes(dtype_, columns_);
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::span<const uint8_t> row(codes.data() + i * static_cast<size_t>(columns_),
                                         static_cast<size_t>(columns_));
      if (holds_codes_) {
        write_blocks(rows[i], row, out);
      } else {
        write_values(rows[i], row, {out, size});
      }
      out += size;
    }
  }

 protected:
  struct Setting {
    float scale;
    int zero;
  };

  // group: columns that share a scale, a divisor of them all. order: the group of each column, or
  // empty.
  CodedMatrix(std::string label, int64_t rows, int64_t columns, int64_t group, int bits,
              bool is_symmetric, std::vector<int32_t> order)
      : StoredMatrix(rows, columns,
                     dtype_of_codes(columns, group, bits, is_symmetric, !order.empty())),
        group_(group),
        label_(std::move(label)),
        holds_codes_(dtype_ != DType::f16 && order.empty() &&
                     (group == columns || group % block_elements == 0)),
        order_(std::move(order)) {}

  // [rows.size()][columns].
  virtual void read_codes(std::span<const int64_t> rows, uint8_t* out) const = 0;
  virtual Setting setting(int64_t row, int64_t group) const = 0;

  const int64_t group_;

 private:
  void write_blocks(int64_t row, std::span<const uint8_t> codes, std::byte* out) const {
    Setting now{};
    uint16_t scale = 0;
    int64_t group = -1;
    for (int64_t first = 0; first < columns_; first += block_elements) {
      if (first / group_ != group) {
        group = first / group_;
        now = setting(row, group);
        check(row, now);
        scale = f32_to_f16(now.scale);
      }
      write_block(now.zero, scale, codes.data() + first, out);
      out += traits(dtype_).block_bytes;
    }
  }

  void write_block(int zero, uint16_t scale, const uint8_t* codes, std::byte* out) const {
    constexpr int half = block_elements / 2;
    if (dtype_ == DType::q8_0) {
      BlockQ8_0 block{.d = scale, .codes = {}};
      for (int i = 0; i < block_elements; ++i)
        block.codes[i] = static_cast<int8_t>(codes[i] - zero);
      std::memcpy(out, &block, sizeof(block));
    } else if (dtype_ == DType::q4_0) {
      BlockQ4_0 block{.d = scale, .codes = {}};
      for (int i = 0; i < half; ++i) {
        block.codes[i] = static_cast<uint8_t>(codes[i] | codes[i + half] << 4);
      }
      std::memcpy(out, &block, sizeof(block));
    } else {
      BlockQ5_0 block{.d = scale, .high = {}, .codes = {}};
      for (int i = 0; i < half; ++i) {
        const int low = codes[i] - zero + 16, high = codes[i + half] - zero + 16;
        block.codes[i] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
        block.high[i / 8] = static_cast<uint8_t>(block.high[i / 8] | (low >> 4) << i % 8);
        block.high[2 + i / 8] = static_cast<uint8_t>(block.high[2 + i / 8] | (high >> 4) << i % 8);
      }
      std::memcpy(out, &block, sizeof(block));
    }
  }

  void write_values(int64_t row, std::span<const uint8_t> codes, std::span<std::byte> out) const {
    std::vector<Setting> settings;
    for (int64_t group = 0; group < columns_ / group_; ++group) {
      settings.push_back(setting(row, group));
      check(row, settings.back());
    }
    std::vector<float> values(codes.size());
    for (size_t column = 0; column < codes.size(); ++column) {
      const auto group = order_.empty() ? static_cast<int64_t>(column) / group_ : order_[column];
      const Setting& now = settings[static_cast<size_t>(group)];
      values[column] = static_cast<float>(codes[column] - now.zero) * now.scale;
    }
    quantize_row(dtype_, values, out);
  }

  void check(int64_t row, const Setting& setting) const {
    // Codes are at most 255 from their zero point.
    if (!(std::fabs(setting.scale) <= quantizable_max / 256)) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: a scale of row {} is {}; a finite number up to {} is expected",
                              label_, row, setting.scale, quantizable_max / 256));
    }
    constexpr int middle_of_four_bits = 8;
    if (dtype_ == DType::q4_0 && setting.zero != middle_of_four_bits) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: a zero point of row {} is {}; config.json says that codes are "
                              "symmetric, so that {} is expected",
                              label_, row, setting.zero, middle_of_four_bits));
    }
  }

  const std::string label_;
  const bool holds_codes_;  // and scales, as they are
  const std::vector<int32_t> order_;
};

// Eight outputs stand in a word, in the order 0, 2, 4, 6, 1, 3, 5, 7.
class AwqMatrix final : public CodedMatrix {
 public:
  AwqMatrix(std::string label, const FolderTensor& codes, const FolderTensor& zeros,
            const FolderTensor& scales, int64_t rows, int64_t columns, int64_t group)
      : CodedMatrix(std::move(label), rows, columns, group, /*bits=*/4, /*is_symmetric=*/false,
                    {}) {
    parts_ = {&codes, &zeros, &scales};
  }

 private:
  static int shift_of(int64_t row) {
    constexpr int shifts[] = {0, 16, 4, 20, 8, 24, 12, 28};
    return shifts[row % 8];
  }
  void read_codes(std::span<const int64_t> rows, uint8_t* out) const override {
    for (int64_t column = 0; column < columns_; ++column) {
      const int64_t words = column * (rows_ / 8);
      for (size_t i = 0; i < rows.size(); ++i) {
        const uint32_t word = word_at(*parts_[0], words + rows[i] / 8);
        out[static_cast<int64_t>(i) * columns_ + column] =
            static_cast<uint8_t>(word >> shift_of(rows[i]) & 15);
      }
    }
  }
  Setting setting(int64_t row, int64_t group) const override {
    const uint32_t word = word_at(*parts_[1], group * (rows_ / 8) + row / 8);
    return {float_at(*parts_[2], group * rows_ + row),
            static_cast<int>(word >> shift_of(row) & 15)};
  }
};

// Eight inputs stand in a word of codes, eight outputs in one of zero points.
class GptqMatrix final : public CodedMatrix {
 public:
  GptqMatrix(std::string label, const FolderTensor& codes, const FolderTensor& zeros,
             const FolderTensor& scales, int64_t rows, int64_t columns, int64_t group,
             const StoredScheme& scheme, std::vector<int32_t> order)
      : CodedMatrix(std::move(label), rows, columns, group, /*bits=*/4, scheme.is_symmetric,
                    std::move(order)),
        zero_offset_(scheme.zero_offset) {
    parts_ = {&codes, &zeros, &scales};
  }

 private:
  void read_codes(std::span<const int64_t> rows, uint8_t* out) const override {
    for (int64_t words = 0; words < columns_ / 8; ++words) {
      for (size_t i = 0; i < rows.size(); ++i) {
        uint32_t word = word_at(*parts_[0], words * rows_ + rows[i]);
        uint8_t* to = out + static_cast<int64_t>(i) * columns_ + words * 8;
        for (int k = 0; k < 8; ++k, word >>= 4) to[k] = static_cast<uint8_t>(word & 15);
      }
    }
  }
  Setting setting(int64_t row, int64_t group) const override {
    const uint32_t word = word_at(*parts_[1], group * (rows_ / 8) + row / 8);
    return {float_at(*parts_[2], group * rows_ + row),
            static_cast<int>(word >> row % 8 * 4 & 15) + zero_offset_};
  }

  const int zero_offset_;
};

// A row's codes stand in words one after the other; zero points of several rows in one word.
class PackedMatrix final : public CodedMatrix {
 public:
  // zeros: nullptr where codes are symmetric
  PackedMatrix(std::string label, const FolderTensor& codes, const FolderTensor* zeros,
               const FolderTensor& scales, int64_t rows, int64_t columns, int64_t group, int bits,
               std::vector<int32_t> order)
      : CodedMatrix(std::move(label), rows, columns, group, bits, zeros == nullptr,
                    std::move(order)),
        bits_(bits),
        zeros_(zeros) {
    parts_ = {&codes, &scales};
    if (zeros != nullptr) parts_.push_back(zeros);
  }

 private:
  void read_codes(std::span<const int64_t> rows, uint8_t* out) const override {
    const int64_t in_word = 32 / bits_;
    const int64_t words = (columns_ + in_word - 1) / in_word;
    const uint32_t mask = (1u << bits_) - 1;
    for (const int64_t row : rows) {
      for (int64_t column = 0; column < columns_; ++column) {
        const uint32_t word = word_at(*parts_[0], row * words + column / in_word);
        *out++ = static_cast<uint8_t>(word >> column % in_word * bits_ & mask);
      }
    }
  }
  Setting setting(int64_t row, int64_t group) const override {
    const int64_t groups = columns_ / group_;
    const float scale = float_at(*parts_[1], row * groups + group);
    if (zeros_ == nullptr) return {scale, 1 << (bits_ - 1)};
    const int64_t in_word = 32 / bits_;
    const uint32_t word = word_at(*zeros_, row / in_word * groups + group);
    return {scale, static_cast<int>(word >> row % in_word * bits_ & ((1u << bits_) - 1))};
  }

  const int bits_;
  const FolderTensor* const zeros_;
};

class IntegerMatrix final : public CodedMatrix {
 public:
  // all_share: one scale for the whole matrix
  IntegerMatrix(std::string label, const FolderTensor& codes, const FolderTensor& scales,
                int64_t rows, int64_t columns, int64_t group, bool all_share)
      : CodedMatrix(std::move(label), rows, columns, group, /*bits=*/8, /*is_symmetric=*/true, {}),
        all_share_(all_share) {
    parts_ = {&codes, &scales};
  }

 private:
  static constexpr int middle = 128;

  void read_codes(std::span<const int64_t> rows, uint8_t* out) const override {
    for (const int64_t row : rows) {
      const std::byte* from = parts_[0]->bytes.data() + row * columns_;
      for (int64_t column = 0; column < columns_; ++column) {
        *out++ = static_cast<uint8_t>(static_cast<uint8_t>(from[column]) ^ middle);
      }
    }
  }
  Setting setting(int64_t row, int64_t group) const override {
    const int64_t at = all_share_ ? 0 : row * (columns_ / group_) + group;
    return {float_at(*parts_[1], at), middle};
  }

  const bool all_share_;
};

// Columns that share a scale, where they divide the row.
int64_t checked_group(const FolderTensors& tensors, const FolderTensor& codes, int64_t columns,
                      const StoredScheme& scheme) {
  const int64_t group = scheme.group == 0 ? columns : scheme.group;
  if (columns % group == 0) return group;
  throw Error(ErrorCode::invalid_file,
              fmt::format("{}: rows of {} weights are not whole groups of {}", tensors.label(codes),
                          columns, group));
}

// The group of each column; empty where columns come group after group, or there is no such tensor.
std::vector<int32_t> read_order(FolderTensors& tensors, const std::string& name, int64_t columns,
                                int64_t group) {
  if (!tensors.contains(name)) return {};
  const FolderTensor& tensor = tensors.take(name, {"I32"}, Shape{columns});
  std::vector<int32_t> order(static_cast<size_t>(columns));
  std::memcpy(order.data(), tensor.bytes.data(), tensor.bytes.size());
  const auto is_unset = [](int32_t each) { return each == -1; };
  if (std::ranges::all_of(order, is_unset)) return {};
  bool comes_in_order = true;
  for (int64_t column = 0; column < columns; ++column) {
    const int32_t each = order[static_cast<size_t>(column)];
    if (each < 0 || each >= columns / group) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: column {} is of group {}; 0 to {} is expected",
                              tensors.label(tensor), column, each, columns / group - 1));
    }
    comes_in_order &= each == column / group;
  }
  if (comes_in_order) order.clear();
  return order;
}

void require_multiple(const FolderTensors& tensors, const FolderTensor& codes, int64_t extent,
                      int64_t of) {
  if (extent % of == 0) return;
  throw Error(ErrorCode::invalid_file, fmt::format("{}: {} weights do not fill words of {}",
                                                   tensors.label(codes), extent, of));
}

}  // namespace

std::shared_ptr<const StoredMatrix> stored_awq(FolderTensors& tensors, const std::string& module,
                                               int64_t rows, int64_t columns,
                                               const StoredScheme& scheme) {
  const FolderTensor& codes =
      tensors.take(module + ".qweight", {"I32"}, Shape{columns, (rows + 7) / 8});
  require_multiple(tensors, codes, rows, 8);
  const int64_t group = checked_group(tensors, codes, columns, scheme);
  const int64_t groups = columns / group;
  const FolderTensor& zeros = tensors.take(module + ".qzeros", {"I32"}, Shape{groups, rows / 8});
  const FolderTensor& scales =
      tensors.take(module + ".scales", {"F16", "BF16", "F32"}, Shape{groups, rows});
  return std::make_shared<AwqMatrix>(tensors.label(codes), codes, zeros, scales, rows, columns,
                                     group);
}

std::shared_ptr<const StoredMatrix> stored_gptq(FolderTensors& tensors, const std::string& module,
                                                int64_t rows, int64_t columns,
                                                const StoredScheme& scheme) {
  const FolderTensor& codes =
      tensors.take(module + ".qweight", {"I32"}, Shape{(columns + 7) / 8, rows});
  require_multiple(tensors, codes, rows, 8);
  require_multiple(tensors, codes, columns, 8);
  const int64_t group = checked_group(tensors, codes, columns, scheme);
  const int64_t groups = columns / group;
  const FolderTensor& zeros = tensors.take(module + ".qzeros", {"I32"}, Shape{groups, rows / 8});
  const FolderTensor& scales =
      tensors.take(module + ".scales", {"F16", "BF16", "F32"}, Shape{groups, rows});
  return std::make_shared<GptqMatrix>(tensors.label(codes), codes, zeros, scales, rows, columns,
                                      group, scheme,
                                      read_order(tensors, module + ".g_idx", columns, group));
}

std::shared_ptr<const StoredMatrix> stored_packed(FolderTensors& tensors, const std::string& module,
                                                  int64_t rows, int64_t columns,
                                                  const StoredScheme& scheme) {
  const int64_t in_word = 32 / scheme.bits;
  const FolderTensor& codes = tensors.take(module + ".weight_packed", {"I32"},
                                           Shape{rows, (columns + in_word - 1) / in_word});
  const int64_t group = checked_group(tensors, codes, columns, scheme);
  const int64_t groups = columns / group;
  const FolderTensor& scales =
      tensors.take(module + ".weight_scale", {"F16", "BF16", "F32"}, Shape{rows, groups});
  const FolderTensor* zeros = nullptr;
  if (!scheme.is_symmetric) {
    zeros = &tensors.take(module + ".weight_zero_point", {"I32"},
                          Shape{(rows + in_word - 1) / in_word, groups});
  }
  tensors.find(module + ".weight_shape");  // which the shape of the words tells as well
  return std::make_shared<PackedMatrix>(
      tensors.label(codes), codes, zeros, scales, rows, columns, group, scheme.bits,
      read_order(tensors, module + ".weight_g_idx", columns, group));
}

std::shared_ptr<const StoredMatrix> stored_integers(FolderTensors& tensors,
                                                    const std::string& module, int64_t rows,
                                                    int64_t columns, const StoredScheme& scheme) {
  const FolderTensor& codes = tensors.take(module + ".weight", {"I8"}, Shape{rows, columns});
  const int64_t group = checked_group(tensors, codes, columns, scheme);
  const FolderTensor* found = tensors.find(module + ".weight_scale");
  const bool all_share = found != nullptr && found->shape.elements() == 1;
  const FolderTensor& scales = tensors.take(module + ".weight_scale", {"F16", "BF16", "F32"},
                                            all_share ? Shape{1} : Shape{rows, columns / group});
  return std::make_shared<IntegerMatrix>(tensors.label(codes), codes, scales, rows, columns, group,
                                         all_share);
}

}  // namespace ridge::format
