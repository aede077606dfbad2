#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace ridge {

// What the bytes of one row mean, in float32: the formula of blocks.h for quantised types, a plain
// conversion for the others (integers without a scale). This is the meaning that every back end's
// kernels are held to.
//   row: row_bytes(dtype, out.size()) bytes, at any alignment.
//   out: [columns], a multiple of the dtype's block_elements.
void dequantize_row(DType dtype, std::span<const std::byte> row, std::span<float> out);

}  // namespace ridge
