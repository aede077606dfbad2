#pragma once

#include <cstdint>

#include "backend/ascend/kernels/tiling_data.h"
#include "backend/ascend/soc.h"

// How each kernel's work is cut for a device: over its cores, and into steps that fit their local
// memories. All of it is decided here, on the host. Functions throw unsupported for a shape that a
// kernel cannot take, saying what it could.
namespace ridge::backend::ascend {

template <typename Tiling>
struct Planned {
  Tiling tiling;
  uint32_t block_dim;
};

struct RowShape {
  uint32_t rows;
  uint32_t columns;
  uint32_t element_bytes;  // of activations: 2 or 4
};

// ridge_rms_norm_*, and ridge_add_rms_norm_* with `adds`.
struct RmsNormShape {
  RowShape row;
  uint32_t x_stride;
  uint32_t residual_stride;  // with `adds`
  uint32_t out_stride;
  float epsilon;
  bool adds;
};
Planned<RmsNormTiling> plan_rms_norm(const Soc& soc, const RmsNormShape& shape);

// ridge_gated_activation_*. `columns` are those of a run's half, F; a row of x has groups · 2F.
struct GatedActivationShape {
  RowShape row;
  uint32_t groups;
  uint32_t x_stride;
  uint32_t out_stride;
  GatedActivationTiling::Kind kind;
};
Planned<GatedActivationTiling> plan_gated_activation(const Soc& soc,
                                                     const GatedActivationShape& shape);

}  // namespace ridge::backend::ascend
