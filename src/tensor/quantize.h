#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace ridge {

// The greatest magnitude that quantize_row takes: the greatest finite F16, in which every quantised
// format keeps its scales.
inline constexpr float quantizable_max = 65504.0f;

// True for the types that quantize_row writes: F32, F16, BF16 and all quantised types but Q2_K and
// Q3_K.
bool can_quantize(DType dtype);

// True for the types whose scales quantize_row searches: those of four to six bits.
bool searches_scales(DType dtype);

// Writes floats as blocks of `dtype`, whose meaning stands in blocks.h. Where scales are searched (of
// MXFP4, three powers of two) it is for the least sum of w · (x - x')² over a block or super-block. w
// is the column's weight, or |x| + root mean square of the group where no activations are known that
// could say which weights matter more. Codes are the nearest for the scales as stored. The result
// depends on nothing but the values and weights: not on the machine's instruction set, nor on how a
// tensor is divided.
//   values: [columns], a multiple of the dtype's block_elements; all finite, no magnitude above
//           quantizable_max.
//   out: row_bytes(dtype, values.size()) bytes, at any alignment.
//   column_weights: [columns], from 1e-6 to 1e6, or empty.
void quantize_row(DType dtype, std::span<const float> values, std::span<std::byte> out,
                  std::span<const float> column_weights = {});

}  // namespace ridge
