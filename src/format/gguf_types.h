#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace ridge::format {

// Of tensor data, where general.alignment does not say otherwise.
inline constexpr uint32_t default_alignment_bytes = 32;

// `offset` rounded up to a multiple of `alignment`.
constexpr uint64_t aligned(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// A tensor type as GGUF numbers them. Types that this build cannot read have no dtype, but a known
// block size, so that their extents are checked all the same.
struct GgufTensorType {
  uint32_t number;
  std::string_view name;
  uint32_t block_elements;
  uint32_t block_bytes;
  std::optional<DType> dtype;
};

// nullptr for a number that this build does not know.
const GgufTensorType* find_tensor_type(uint32_t number);
uint32_t tensor_type_number(DType dtype);

// `text` from a file, fit for a message: in quotes, control characters escaped, cut at 80 bytes.
std::string quoted_name(std::string_view text);

}  // namespace ridge::format
