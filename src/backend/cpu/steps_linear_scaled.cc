#include "backend/cpu/steps_linear_scaled.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Strips that meet a unit's columns of the tokens before the next unit does: the tokens come from
// the second-level cache once for all of them.
constexpr int64_t strips_together = 12;
// Shares of the work for each member, at least.
constexpr int64_t shares = 4;

}  // namespace

LinearScaled::LinearScaled(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                           int members, const KernelTable& kernels)
    : plan_(plan),
      strips_(strips),
      kernels_(kernels),
      units_(plan.weight->columns() / scaled_unit),
      max_rows_(max_rows),
      width_(strips.has_up() ? 2 : 1) {
  for (int64_t i = 0; i < strips.count(); ++i) {
    data_.push_back(strips.strip(i).tiles());
    if (width_ == 2) data_.push_back(strips.up(i).tiles());
  }
  make_groups(
      std::clamp<int64_t>(strips.count() / (shares * members), 1, strips_together / width_));
}

bool LinearScaled::serves(const LinearPlan& plan, const LinearStrips& strips,
                          const KernelTable& kernels) {
  if (plan.precision == Precision::full || plan.weight->columns() % scaled_unit != 0) return false;
  for (int64_t i = 0; i < strips.count(); ++i) {
    const DType dtype = strips.strip(i).part->dtype;
    if (kernels.scaled.multiply[static_cast<int>(dtype)] == nullptr) return false;
    if (strips.has_up() && strips.up(i).part->dtype != dtype) return false;
  }
  return true;
}

void LinearScaled::make_groups(int64_t most) {
  for (int64_t i = 0; i < strips_.count(); ++i) {
    const DType dtype = strips_.strip(i).part->dtype;
    if (groups_.empty() || groups_.back().dtype != dtype || groups_.back().count == most) {
      groups_.push_back({i, 0, dtype});
    }
    most_strips_ = std::max(most_strips_, ++groups_.back().count * width_);
  }
}

const std::byte* const* LinearScaled::strips_of(const Group& group) const {
  return data_.data() + group.first * width_;
}

size_t LinearScaled::shared_scratch_bytes() const {
  return static_cast<size_t>(units_) * max_rows_ *
             (scaled_planes * scaled_unit + sizeof(uint16_t) * scaled_sum_width + sizeof(float)) +
         64;
}

size_t LinearScaled::member_scratch_bytes() const {
  return std::max(scaled_scratch + sizeof(float) * most_strips_ * max_rows_ * strip_rows,
                  sizeof(float) * static_cast<size_t>(plan_.weight->columns()));
}

ScaledTokens LinearScaled::tokens(std::byte* memory, int rows) const {
  auto* codes = reinterpret_cast<int8_t*>(memory);
  auto* sums = reinterpret_cast<uint16_t*>(codes + units_ * rows * scaled_planes * scaled_unit);
  auto* steps = reinterpret_cast<float*>(sums + units_ * rows * scaled_sum_width);
  return {codes, sums, steps, rows};
}

void LinearScaled::pack(const Run& run, int row, const ScaledTokens& to, float* normed) const {
  const float* x = input_row(plan_, run, row, kernels_, normed);
  for (int64_t unit = 0; unit < units_; ++unit) {
    kernels_.scaled.quantize(x + unit * scaled_unit, to.count, to.token(unit, row));
  }
}

void LinearScaled::run(Run& run, int member, int rows, std::atomic<int64_t>& next) const {
  RIDGE_ASSERT(rows <= max_rows_);
  std::byte* scratch = run.member_scratch[member].data();
  const int members = run.members;
  const ScaledTokens packed = tokens(run.shared_scratch, rows);
  split_rows(rows, members, member,
             [&](int row) { pack(run, row, packed, reinterpret_cast<float*>(scratch)); });
  run.team.barrier();
  kernels_.scaled.begin(rows);
  auto* out = reinterpret_cast<float*>(scratch + scaled_scratch);
  const auto count = static_cast<int64_t>(groups_.size());
  // The next group is taken before the present one is multiplied, which fetches its first units.
  for (int64_t taken = next.fetch_add(1); taken < count;) {
    const Group& group = groups_[taken];
    const int64_t following = next.fetch_add(1);
    const Group* then = following < count && groups_[following].dtype == group.dtype
                            ? &groups_[following]
                            : nullptr;
    kernels_.scaled.multiply[static_cast<int>(group.dtype)](
        {.strips = strips_of(group),
         .count = group.count * width_,
         .next = then != nullptr ? strips_of(*then) : nullptr,
         .next_count = then != nullptr ? then->count * width_ : 0,
         .units = units_,
         .tokens = &packed,
         .scratch = scratch,
         .out = out});
    const int64_t stride = int64_t{rows} * strip_rows;
    for (int i = 0; i < group.count; ++i) {
      float* result = out + i * width_ * stride;
      strips_.finish(run, group.first + i, 0, rows, result,
                     width_ == 2 ? result + stride : nullptr);
    }
    taken = following;
  }
  kernels_.scaled.end();
}

}  // namespace ridge::backend::cpu
