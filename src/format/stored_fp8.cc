// Weights of eight bits, e4m3: W = code · scale, with a scale for each block of rows and columns
// (DeepSeek-V3, `weight_scale_inv`, which is multiplied by despite its name), for each row, or for
// all.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "format/stored_matrix.h"
#include "tensor/float_formats.h"
#include "tensor/quantize.h"

namespace ridge::format {

namespace {

// One sign, four bits of exponent with a bias of 7, three of mantissa; no infinities (OCP 8-bit
// Floating Point Specification, E4M3).
float e4m3_to_f32(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if (exponent == 15 && mantissa == 7) value = NAN;
  return bits & 0x80 ? -value : value;
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> all;
    for (int bits = 0; bits < 256; ++bits) all[bits] = e4m3_to_f32(static_cast<uint8_t>(bits));
    return all;
  }();
  return values;
}

class Fp8Matrix final : public StoredMatrix {
 public:
  Fp8Matrix(std::string label, const FolderTensor& weight, const FolderTensor& scales, int64_t rows,
            int64_t columns, int64_t block_rows, int64_t block_columns)
      : StoredMatrix(rows, columns, DType::f16),
        label_(std::move(label)),
        block_rows_(block_rows),
        block_columns_(block_columns) {
    parts_ = {&weight, &scales};
  }

  void write(std::span<const int64_t> rows, std::byte* out) const override {
    const auto& values = e4m3_values();
    const int64_t blocks = (columns_ + block_columns_ - 1) / block_columns_;
    for (const int64_t row : rows) {
      const std::byte* codes = parts_[0]->bytes.data() + row * columns_;
      for (int64_t block = 0; block < blocks; ++block) {
        const float scale = float_at(*parts_[1], row / block_rows_ * blocks + block);
        const int64_t end = std::min(columns_, (block + 1) * block_columns_);
        for (int64_t column = block * block_columns_; column < end; ++column) {
          const float value = values[static_cast<uint8_t>(codes[column])] * scale;
          if (!(std::fabs(value) <= quantizable_max)) refuse_value(row, column, value);
          const uint16_t half = f32_to_f16(value);
          std::memcpy(out, &half, sizeof(half));
          out += sizeof(half);
        }
      }
    }
  }

 private:
  [[noreturn]] void refuse_value(int64_t row, int64_t column, float value) const {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: element {} of row {} is {}; a finite number up to {} is expected",
                            label_, column, row, value, quantizable_max));
  }

  std::string label_;
  int64_t block_rows_;
  int64_t block_columns_;
};

}  // namespace

std::shared_ptr<const StoredMatrix> stored_fp8(FolderTensors& tensors, const std::string& module,
                                               int64_t rows, int64_t columns,
                                               const StoredScheme& scheme) {
  const FolderTensor& weight = tensors.take(module + ".weight", {"F8_E4M3"}, Shape{rows, columns});
  const std::string scales_name =
      module +
      (tensors.contains(module + ".weight_scale_inv") ? ".weight_scale_inv" : ".weight_scale");
  const FolderTensor* found = tensors.find(scales_name);
  int64_t block_rows = scheme.block_rows, block_columns = scheme.block_columns;
  if (found != nullptr && found->shape.elements() == 1) {
    block_rows = rows;
    block_columns = columns;
  } else if (found != nullptr && found->shape.elements() == rows && found->shape[0] == rows) {
    block_rows = 1;
    block_columns = columns;
  }
  const Shape blocks{(rows + block_rows - 1) / block_rows,
                     (columns + block_columns - 1) / block_columns};
  const FolderTensor& scales = tensors.take(scales_name, {"F32", "BF16", "F16"}, blocks);
  return std::make_shared<Fp8Matrix>(tensors.label(weight), weight, scales, rows, columns,
                                     block_rows, block_columns);
}

}  // namespace ridge::format
