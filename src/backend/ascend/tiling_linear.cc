#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "backend/ascend/tiling.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"

// Linears of all kinds.
namespace ridge::backend::ascend {

namespace {

// Tiles have a multiple of `column_unit` columns.
Planned<LinearTiling> cut_linear(const Soc& soc, const LinearShape& shape, uint32_t column_unit,
                                 uint32_t element_bytes) {
  constexpr uint32_t fractal = 16;
  const uint32_t k_unit = 32 / element_bytes;
  const uint32_t n_padded = up_to(shape.n, column_unit);
  if (shape.x_stride > most_stride ||
      (shape.layout == LinearTiling::nd && shape.k > most_stride) || n_padded > most_stride + column_unit) {
    throw Error(ErrorCode::unsupported,
                fmt::format("linear: rows of {} and {} values, {} outputs; an Ascend core copies "
                            "rows at most {} apart",
                            shape.x_stride, shape.k, shape.n, most_stride));
  }
  LinearTiling tiling{};
  tiling.m = shape.m;
  tiling.n = shape.n;
  tiling.k = shape.k;
  // 128 · 256 accumulators fill L0C. Few rows leave the columns to share among all cores.
  tiling.m_tile = std::min(128u, up_to(shape.m, fractal));
  // Of groups of rows some may be empty, and others have more than one tile.
  const bool by_rows = shape.groups > 1 && shape.grouping == LinearTiling::by_rows;
  const uint32_t m_tiles = by_rows ? std::min(shape.m, shape.groups)
                                   : up(shape.m, tiling.m_tile) * shape.groups;
  const uint32_t cores_for_n = std::max(1u, soc.cube_cores / m_tiles);
  tiling.n_tile = std::min(256u, up_to(up(shape.n, cores_for_n), column_unit));
  tiling.accumulators = 2 * tiling.m_tile * tiling.n_tile * 4 <= l0c_bytes ? 2 : 1;
  // Half of L0A and of L0B for each product, so that the next is loaded meanwhile.
  const uint32_t widest = std::max(tiling.m_tile, tiling.n_tile);
  tiling.k_l0 =
      std::min(256 / element_bytes, l0b_bytes / 2 / (widest * element_bytes) / k_unit * k_unit);
  const uint32_t room = usable_l1_bytes / 2 / ((tiling.m_tile + tiling.n_tile) * element_bytes);
  tiling.k_l1 = std::min(room / tiling.k_l0 * tiling.k_l0,
                         up_to(shape.k, tiling.k_l0));
  // More in one load than makes it fast gains nothing and delays the first product.
  tiling.k_l1 = std::min(tiling.k_l1, 2048 / element_bytes);
  tiling.x_stride = shape.x_stride;
  tiling.out_stride = shape.out_stride;
  tiling.layout = shape.layout;
  tiling.n_padded = n_padded;
  tiling.out_floats = shape.out_floats ? 1 : 0;
  tiling.groups = shape.groups;
  tiling.grouping = shape.grouping;
  return {tiling, std::min(soc.cube_cores, m_tiles * up(shape.n, tiling.n_tile))};
}

// nullopt where there are too many rows: those of digits are more than a step's, or it would be less
// work to make halves of the weight.
std::optional<Planned<QuantizedLinearTiling>> cut_few_rows(const Soc& soc, const LinearShape& shape,
                                                           const QuantizedFormat& format) {
  constexpr uint32_t most_rows = 2;  // of more, the vector cores' work for each is the limit
  constexpr uint32_t most_digit_rows = 32;
  constexpr uint32_t most_statistic_bytes = 24 * 1024;
  constexpr uint32_t fractal_row_bytes = 32;
  const uint32_t fractal_k = 8 * fractal_row_bytes / format.code_bits;
  const uint32_t digits = format.code_bits == 4 ? 4 : 2;
  const uint32_t product_bytes = format.code_bits == 4 ? 2 : 4;
  QuantizedLinearTiling tiling{};
  tiling.chunk = format.group == 32 ? 512 : 256;
  tiling.piece = shape.m == 1 ? 2048 : 1024;
  const uint32_t chunk_fractals = tiling.chunk / fractal_k;
  const uint32_t chunk_groups = tiling.chunk / format.group;
  const uint32_t padded_k = up_to(shape.k, tiling.chunk);
  tiling.digit_rows = digits * shape.m * (fractal_k / format.group);
  tiling.statistic_bytes = up_to(shape.m * (padded_k / format.group) * 4, 512);
  if (shape.groups > 1 || shape.m > most_rows || tiling.digit_rows > most_digit_rows ||
      tiling.statistic_bytes > most_statistic_bytes) {
    return std::nullopt;
  }
  const uint32_t padded_rows = up_to(tiling.digit_rows, 16);
  // A vector core has half of a tile's columns, with products and sums of all groups of a chunk:
  // 128 columns of 16 groups and one row fill half of UB.
  const uint32_t most_columns = 2 * 128 * 16 / (shape.m * chunk_groups);
  tiling.format = format;
  tiling.slots = 4;
  LinearTiling& linear = tiling.linear;
  linear.m = shape.m;
  linear.n = shape.n;
  linear.k = shape.k;
  linear.m_tile = shape.m;
  // Each vector core reads scales of half of a tile, a byte for each column: of 64 or 192 columns that would cut
  // the parts of 128 bytes that memory gives, which costs more than cores that have no tile. And work on
  // a tile of 256 is less than on two of 128.
  const uint32_t wanted_columns = shape.n <= 128 * soc.cube_cores ? 128 : 256;
  linear.n_tile =
      std::min({wanted_columns, most_columns / quantized_columns * quantized_columns,
                up_to(shape.n, quantized_columns)});
  linear.x_stride = shape.x_stride;
  linear.out_stride = shape.out_stride;
  linear.n_padded = up_to(shape.n, quantized_columns);
  linear.out_floats = shape.out_floats ? 1 : 0;
  linear.groups = 1;
  if (linear.n_padded > most_stride) return std::nullopt;
  // Half of L0C and of L0B.
  tiling.step_fractals =
      std::min({chunk_fractals, l0c_bytes / 2 / (padded_rows * linear.n_tile * 4),
                l0b_bytes / 2 / (linear.n_tile * fractal_row_bytes)});
  tiling.digit_bytes = padded_k / fractal_k * padded_rows * fractal_row_bytes;
  tiling.slot_bytes =
      up_to(tiling.digit_rows * chunk_fractals * linear.n_tile * product_bytes, 512);
  const uint32_t block_dim = std::min(soc.cube_cores, up(shape.n, linear.n_tile));
  const uint64_t block_bytes = tiling.digit_bytes + 2 * uint64_t{tiling.statistic_bytes} +
                               uint64_t{tiling.slots} * tiling.slot_bytes;
  return Planned<QuantizedLinearTiling>{tiling, block_dim, block_dim * block_bytes};
}

}  // namespace

Planned<LinearTiling> plan_linear(const Soc& soc, const LinearShape& shape) {
  return cut_linear(soc, shape, 16, /*element_bytes=*/2);
}

Planned<LinearTiling> plan_linear_w8a8(const Soc& soc, const LinearShape& shape) {
  return cut_linear(soc, shape, 16, /*element_bytes=*/1);
}

QuantizedLinearPlan plan_quantized_linear(const Soc& soc, const LinearShape& shape,
                                          const QuantizedFormat& format) {
  if (shape.k % format.span != 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("linear: rows of {} quantised values; blocks have {}", shape.k,
                            format.span));
  }
  const bool is_int4 = format.code_bits == 4;
  if (!shape.batch_invariant) {
    if (const auto few = cut_few_rows(soc, shape, format)) {
      return {*few, is_int4 ? "ridge_linear_i4_few_rows" : "ridge_linear_i8_few_rows"};
    }
  }
  const Planned<LinearTiling> plan = cut_linear(soc, shape, quantized_columns, /*element_bytes=*/2);
  QuantizedLinearTiling tiling{};
  tiling.linear = plan.tiling;
  tiling.format = format;
  tiling.slots = 3;
  // Whole chunks, and short enough that the cube core does not wait long for the first.
  tiling.linear.k_l1 = 256;
  tiling.linear.k_l0 = std::min(plan.tiling.k_l0, tiling.linear.k_l1);
  const uint64_t slot_bytes = uint64_t{tiling.linear.n_tile} * tiling.linear.k_l1 * 2;
  return {{tiling, plan.block_dim, plan.block_dim * tiling.slots * slot_bytes},
          shape.groups > 1 && shape.grouping == LinearTiling::by_rows
              ? (is_int4 ? "ridge_expert_linear_i4" : "ridge_expert_linear_i8")
              : (is_int4 ? "ridge_linear_i4" : "ridge_linear_i8")};
}

}  // namespace ridge::backend::ascend
