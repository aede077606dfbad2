#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace ridge::format {

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
