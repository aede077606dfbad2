#pragma once

#include <cstdint>

// What the host tells each kernel: plain structures of 32-bit words that both sides include. The
// host fills them in tiling.cc; a kernel reads its own from global memory (read_tiling.h).
namespace ridge::backend::ascend {

// Sizes and strides are in elements unless a name says otherwise. A stride is the distance between
// rows in global memory.

// Rows of each core: core i has `rows_per_core` of them, from i · rows_per_core on.
struct RmsNormTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_core;
  uint32_t rows_per_step;
  uint32_t x_stride;
  uint32_t residual_stride;
  uint32_t out_stride;
  float epsilon;
  float inverse_columns;  // 1 / columns
};

struct GatedActivationTiling {
  enum Kind : uint32_t { silu, gelu_tanh, swiglu_oai };

  uint32_t runs;           // rows · groups: each is gate and up of `columns` each
  uint32_t groups;         // runs of a row
  uint32_t columns;
  uint32_t runs_per_core;
  uint32_t runs_per_step;    // more than 1 only where all runs are equally far apart
  uint32_t columns_per_step;
  uint32_t x_stride;
  uint32_t out_stride;
  uint32_t kind;
};

}  // namespace ridge::backend::ascend
