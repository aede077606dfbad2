#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace ridge {

// Bytes owned by somebody else (a mapped file, a buffer), read as a contiguous tensor.
struct TensorView {
  DType dtype = DType::f32;
  Shape shape;
  std::span<const std::byte> bytes;  // exactly rows × row_bytes(dtype, columns)

  // The bytes of row `index` of the tensor seen as [rows, columns].
  std::span<const std::byte> row(int64_t index) const {
    const size_t stride = row_bytes(dtype, shape.columns());
    return bytes.subspan(static_cast<size_t>(index) * stride, stride);
  }
};

}  // namespace ridge
