#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ridge {

// Element types of files and activations. The quantised ones are stored as blocks of
// `block_elements` consecutive elements of one row.
enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  i8,
  i32,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
};

inline constexpr int dtype_count = static_cast<int>(DType::mxfp4) + 1;

struct DTypeTraits {
  std::string_view name;  // as GGUF tools print it: "Q4_K"
  int block_elements;     // 1 for plain types
  int block_bytes;
};

const DTypeTraits& traits(DType dtype);
std::string_view name(DType dtype);
// Case-insensitive; nullopt for an unknown name.
std::optional<DType> dtype_from_name(std::string_view name);
bool is_quantized(DType dtype);

// Bytes of one row of `elements` elements. `elements` must be a multiple of block_elements.
size_t row_bytes(DType dtype, int64_t elements);

}  // namespace ridge
