// All experts' matrices of a linear in one tensor, as gpt-oss has them (transformers,
// modeling_gpt_oss.py and integrations/mxfp4.py).
#include <fmt/format.h>

#include <cstring>

#include "base/error.h"
#include "format/gguf_types.h"
#include "format/stored_matrix.h"
#include "tensor/blocks.h"

namespace ridge::format {

namespace {

// [experts, columns, rows] of floats.
class TurnedExperts final : public StoredMatrix {
 public:
  TurnedExperts(const FolderTensor& weight, DType dtype, int64_t experts, int64_t rows,
                int64_t columns)
      : StoredMatrix(experts * rows, columns, dtype), expert_rows_(rows) {
    parts_ = {&weight};
  }

  void write(std::span<const int64_t> rows, std::byte* out) const override {
    const auto element = static_cast<size_t>(traits(dtype_).block_bytes);
    const size_t size = row_bytes(dtype_, columns_);
    const std::byte* const from = parts_.front()->bytes.data();
    // Rows are neighbours in the folder, so that all take what they need of a cache line at once.
    for (int64_t column = 0; column < columns_; ++column) {
      std::byte* to = out + static_cast<size_t>(column) * element;
      for (const int64_t row : rows) {
        const int64_t expert = row / expert_rows_;
        const int64_t at = (expert * columns_ + column) * expert_rows_ + row % expert_rows_;
        std::memcpy(to, from + static_cast<size_t>(at) * element, element);
        to += size;
      }
    }
  }

 private:
  const int64_t expert_rows_;
};

// Codes and scales as BlockMXFP4 has them, but for the codes' order.
class BlockedExperts final : public StoredMatrix {
 public:
  BlockedExperts(const FolderTensor& blocks, const FolderTensor& scales, int64_t rows,
                 int64_t columns)
      : StoredMatrix(rows, columns, DType::mxfp4) {
    parts_ = {&blocks, &scales};
  }

  void write(std::span<const int64_t> rows, std::byte* out) const override {
    const int64_t blocks = columns_ / block_elements;
    const auto* codes = reinterpret_cast<const uint8_t*>(parts_[0]->bytes.data());
    const auto* scales = reinterpret_cast<const uint8_t*>(parts_[1]->bytes.data());
    for (const int64_t row : rows) {
      for (int64_t b = row * blocks; b < (row + 1) * blocks; ++b) {
        const BlockMXFP4 block = block_of(codes + b * block_elements / 2, scales[b]);
        std::memcpy(out, &block, sizeof(block));
        out += sizeof(block);
      }
    }
  }

 private:
  static BlockMXFP4 block_of(const uint8_t* pairs, uint8_t scale) {
    constexpr int half = block_elements / 2;
    const auto code = [&](int i) { return (pairs[i / 2] >> (4 * (i % 2))) & 15; };
    BlockMXFP4 block{.e = scale, .codes = {}};
    for (int i = 0; i < half; ++i) {
      block.codes[i] = static_cast<uint8_t>(code(i) | code(i + half) << 4);
    }
    return block;
  }
};

}  // namespace

std::shared_ptr<const StoredMatrix> stored_experts(FolderTensors& tensors, const std::string& name,
                                                   int64_t experts, int64_t rows, int64_t columns,
                                                   const StoredScheme& scheme) {
  if (scheme.kind == StoredScheme::Kind::mxfp4 && tensors.contains(name + "_blocks")) {
    if (columns % block_elements != 0) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("tensor {} cannot be blocks of {}: its rows have {} values",
                              quoted_name(name + "_blocks"), block_elements, columns));
    }
    const int64_t blocks = columns / block_elements;
    const FolderTensor& codes = tensors.take(name + "_blocks", {"U8"},
                                             Shape{experts, rows, blocks, block_elements / 2});
    const FolderTensor& scales =
        tensors.take(name + "_scales", {"U8"}, Shape{experts, rows, blocks});
    return std::make_shared<BlockedExperts>(codes, scales, experts * rows, columns);
  }
  const FolderTensor& weight =
      tensors.take(name, {"F32", "F16", "BF16"}, Shape{experts, columns, rows});
  return std::make_shared<TurnedExperts>(weight, *dtype_from_name(weight.type), experts, rows,
                                         columns);
}

}  // namespace ridge::format
