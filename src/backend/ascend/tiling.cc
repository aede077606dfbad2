#include "backend/ascend/tiling.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

// One transfer moves at full speed from about this size on (measured; see docs/ascend.md).
constexpr uint32_t full_speed_bytes = 16 * 1024;
// Blocks of one strided copy.
constexpr uint32_t most_rows_per_copy = 4095;

uint32_t up(uint32_t value, uint32_t to) { return (value + to - 1) / to; }
uint32_t round_up(uint32_t value, uint32_t to) { return up(value, to) * to; }

// As row_pitch in kernels/row_math.h.
uint32_t row_pitch(uint32_t columns, uint32_t element_bytes) {
  return round_up(columns, std::max(32 / element_bytes, 8u));
}

[[noreturn]] void too_wide(const char* kernel, uint32_t columns, uint32_t bytes) {
  throw Error(ErrorCode::unsupported,
              fmt::format("{}: rows of {} columns need {} bytes of UB; an Ascend core has {}",
                          kernel, columns, bytes, usable_unified_buffer_bytes));
}

// Rows of one step: as many as make a transfer of full speed, but not more than a core has, nor than
// fit beside `fixed` bytes at `bytes_per_row` each.
uint32_t rows_per_step(uint32_t rows_per_core, uint32_t row_bytes, uint32_t bytes_per_row,
                       uint32_t fixed) {
  const uint32_t room = (usable_unified_buffer_bytes - fixed) / bytes_per_row;
  return std::max(1u, std::min({rows_per_core, room, up(full_speed_bytes, row_bytes),
                                most_rows_per_copy}));
}

}  // namespace

Planned<RmsNormTiling> plan_rms_norm(const Soc& soc, const RmsNormShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  const uint32_t pitch = row_pitch(columns, element_bytes);
  // As the kernel's buffers: two of x and out each, and of the residual both ways; values of a step,
  // the weight, the squares and ReduceSum's needs of one row. Sums take a block for each row.
  const uint32_t per_row = (shape.adds ? 8 : 4) * pitch * element_bytes + pitch * 4 + 4 + 32;
  const uint32_t fixed = 2 * pitch * 4 + round_up(pitch / 64 + 1, 8) * 4 + 8 * 4 + 8 * 32;
  if (fixed + per_row > usable_unified_buffer_bytes) too_wide("rms_norm", columns, fixed + per_row);
  const uint32_t cores = std::min(rows, soc.vector_cores);
  RmsNormTiling tiling{};
  tiling.rows = rows;
  tiling.columns = columns;
  tiling.rows_per_core = up(rows, cores);
  tiling.rows_per_step = rows_per_step(tiling.rows_per_core, pitch * element_bytes, per_row, fixed);
  tiling.x_stride = shape.x_stride;
  tiling.residual_stride = shape.residual_stride;
  tiling.out_stride = shape.out_stride;
  tiling.epsilon = shape.epsilon;
  tiling.inverse_columns = 1.0f / static_cast<float>(columns);
  return {tiling, up(rows, tiling.rows_per_core)};
}

Planned<GatedActivationTiling> plan_gated_activation(const Soc& soc,
                                                     const GatedActivationShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  const uint32_t runs = rows * shape.groups;
  // Gate, up and out twice each; three rows of float32.
  const uint32_t bytes_per_element = 6 * element_bytes + 3 * 4;
  const uint32_t most_columns =
      usable_unified_buffer_bytes / bytes_per_element / 64 * 64;
  GatedActivationTiling tiling{};
  tiling.runs = runs;
  tiling.groups = shape.groups;
  tiling.columns = columns;
  tiling.runs_per_core = up(runs, std::min(runs, soc.vector_cores));
  tiling.columns_per_step = std::min(columns, most_columns);
  const uint32_t pitch = row_pitch(tiling.columns_per_step, element_bytes);
  const bool even = shape.groups == 1 || (shape.x_stride == shape.groups * 2 * columns &&
                                          shape.out_stride == shape.groups * columns);
  tiling.runs_per_step =
      even && tiling.columns_per_step == columns
          ? rows_per_step(tiling.runs_per_core, pitch * element_bytes, pitch * bytes_per_element, 0)
          : 1;
  tiling.x_stride = shape.x_stride;
  tiling.out_stride = shape.out_stride;
  tiling.kind = shape.kind;
  return {tiling, up(runs, tiling.runs_per_core)};
}

}  // namespace ridge::backend::ascend
