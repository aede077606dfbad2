#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <utility>
#include <vector>

#include "backend/ascend/device/lowering.h"
#include "backend/ascend/tiling.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"

namespace ridge::backend::ascend {

inline constexpr size_t tiling_alignment = 64;
inline constexpr uint32_t fractal_columns = 16;
inline constexpr uint32_t float_bytes = 4;
inline constexpr uint32_t half_bytes = 2;

inline uint32_t to_fractals_of(uint32_t columns) { return up_to(columns, fractal_columns); }

// Rows on the device; `stride` is in elements.
struct View {
  uint64_t address;
  uint32_t rows;
  uint32_t columns;
  uint32_t stride;
};

// Columns [first, first + count) of rows of float32.
inline View slice(const View& view, uint32_t first, uint32_t count) {
  return {view.address + uint64_t{first} * float_bytes, view.rows, count, view.stride};
}

inline View some_rows(const View& view, uint32_t first, uint32_t count) {
  return {view.address + uint64_t{first} * view.stride * float_bytes, count, view.columns,
          view.stride};
}
// Whether each row begins where the one before ends.
inline bool is_dense(const View& view) { return view.stride == view.columns || view.rows <= 1; }

// Puts launches into a plan: where values are, tilings, scratch memory, and the kernels that many ops
// have in common.
class KernelCalls {
 public:
  KernelCalls(const LoweringContext& context, const PlanKey& key)
      : context_(context), soc_(context.hardware.soc()), key_(key) {}

 protected:
  const StepBuffers& inputs() const { return context_.recording.inputs; }
  static uint64_t input(Buffer* buffer) {
    RIDGE_ASSERT(buffer != nullptr);
    return static_cast<InputBuffer*>(buffer)->span().address;
  }

  const Storage& storage_of(const Value& value) const {
    return context_.recording.storages[static_cast<size_t>(value.storage)];
  }
  uint64_t storage_address(const Value& value) const {
    return context_.memory.storages.address +
           context_.arena.offsets[static_cast<size_t>(value.storage)];
  }
  uint32_t stride_of(const Value& value) const {
    return static_cast<uint32_t>(storage_of(value).columns);
  }
  // Of 32-bit values.
  View view(const Value& value) const {
    RIDGE_ASSERT(traits(storage_of(value).dtype).block_bytes == float_bytes);
    return {storage_address(value) + static_cast<uint64_t>(value.column) * float_bytes,
            static_cast<uint32_t>(rows_of(storage_of(value), key_.shape)),
            static_cast<uint32_t>(value.columns), stride_of(value)};
  }

  // What the op before had is free again, or what was taken since `used` was scratch_used().
  void free_scratch(uint64_t used = 0) { scratch_used_ = used; }
  uint64_t scratch_used() const { return scratch_used_; }
  // Memory of this op alone.
  View scratch(uint32_t rows, uint32_t columns, uint32_t element_bytes) {
    const uint64_t at = scratch_used_;
    scratch_used_ += up_to(uint64_t{rows} * columns * element_bytes, memory_alignment);
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, scratch_used_);
    return {context_.memory.scratch.address + at, rows, columns, columns};
  }

  template <typename Tiling>
  void call(const std::string& kernel, const Planned<Tiling>& planned,
            std::initializer_list<uint64_t> arguments) {
    KernelCall launch{.kernel = &context_.hardware.kernel(kernel),
                      .arguments = {},
                      .blocks = planned.block_dim,
                      .has_workspace = planned.workspace_bytes > 0,
                      .tiling_at = store_tiling(std::as_bytes(std::span(&planned.tiling, 1)))};
    for (const uint64_t argument : arguments) launch.arguments.add(argument);
    plan_.workspace_bytes = std::max(plan_.workspace_bytes, planned.workspace_bytes);
    plan_.actions.push_back(std::move(launch));
  }

  // Integers that a launch reads, and that another one would have left at `address`.
  void assume(uint64_t address, std::vector<int32_t> values) {
    const uint64_t bytes = values.size() * sizeof(int32_t);
    plan_.actions.push_back(Assumed{{address, bytes}, std::move(values)});
  }

  // Layers have the same ones, which need to be there but once.
  size_t store_tiling(std::span<const std::byte> tiling) {
    for (const auto& [at, bytes] : known_tilings_) {
      if (bytes == tiling.size() &&
          std::memcmp(plan_.tilings.data() + at, tiling.data(), bytes) == 0) {
        return at;
      }
    }
    const size_t at = plan_.tilings.size();
    plan_.tilings.insert(plan_.tilings.end(), tiling.begin(), tiling.end());
    plan_.tilings.resize(up_to(plan_.tilings.size(), tiling_alignment));
    known_tilings_.emplace_back(at, tiling.size());
    return at;
  }

  // Behind x's columns come zeros where out has more.
  void scale_rows(const std::string& types, uint32_t x_bytes, uint32_t out_bytes, const View& x,
                  const View& out, float factor = 1, uint64_t scales = 0, uint64_t bias = 0) {
    const auto plan =
        plan_scale_rows(soc_, {x.rows, x.columns, x_bytes, out_bytes, x.stride, out.stride, factor,
                               scales != 0, bias != 0, /*padding=*/out.columns - x.columns});
    call("ridge_scale_rows_" + types, plan,
         {x.address, scales != 0 ? scales : x.address, bias != 0 ? bias : x.address, out.address});
  }
  void copy(const View& x, const View& out) {
    scale_rows("f32_f32", float_bytes, float_bytes, x, out);
  }
  void add(const View& a, const View& b, const View& out) {
    const auto plan = plan_add(
        soc_, {{a.rows, a.columns, float_bytes}, a.stride, b.stride, out.stride});
    call("ridge_add_f32", plan, {a.address, b.address, out.address});
  }
  void norm(const View& x, const AscendWeight& weight, float eps, const View& out) {
    const auto plan = plan_rms_norm(soc_, {{x.rows, x.columns, float_bytes}, x.stride,
                                           /*residual_stride=*/0, out.stride, eps, /*adds=*/false});
    call("ridge_rms_norm_f32", plan, {x.address, weight.vector().address, out.address});
  }
  // Runs of `width` columns as rows of their own: of float32, a copy where they do not lie side by side.
  View runs_of(const View& x, uint32_t width) {
    if (x.columns == width) return x;
    View dense = x;
    if (!is_dense(x)) {
      dense = scratch(x.rows, x.columns, float_bytes);
      copy(x, dense);
    }
    return {dense.address, x.rows * (x.columns / width), width, width};
  }
  // out[i] = the row of float32 that ids[i] says.
  void gather(uint64_t ids, uint64_t table, uint32_t table_stride, const View& out) {
    const auto plan = plan_embed(soc_, {out.rows, out.columns * float_bytes,
                                        table_stride * float_bytes, out.stride * float_bytes});
    call("ridge_embed", plan, {ids, table, out.address});
  }

  const LoweringContext& context_;
  const Soc& soc_;
  const PlanKey key_;
  Plan plan_;

 private:
  uint64_t scratch_used_ = 0;
  std::vector<std::pair<size_t, size_t>> known_tilings_;  // where, and how many bytes
};

}  // namespace ridge::backend::ascend
