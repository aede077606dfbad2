#include <algorithm>

#include "backend/cpu/linear_path.h"
#include "backend/cpu/linear_strips.h"
#include "backend/cpu/steps_linear_panel.h"

namespace ridge::backend::cpu {

namespace {

// Rows of activations quantised in tiles (see ActivationTile), over memory that somebody lends.
class QuantizedRows {
 public:
  QuantizedRows(std::byte* memory, int rows, int64_t columns, int planes, int tile_tokens)
      : rows_(rows),
        groups_(padded(columns) / activation_group),
        planes_(planes),
        tiles_((rows + tile_tokens - 1) / tile_tokens) {
    codes_ = reinterpret_cast<int8_t*>(memory);
    scales_ = reinterpret_cast<float*>(codes_ + rows_ * groups_ * activation_group * planes);
    code_sums_ = reinterpret_cast<int32_t*>(scales_ + rows_ * groups_ * planes);
    group_sums_ = reinterpret_cast<float*>(code_sums_ + rows_ * groups_ * planes * 2);
    half_sums_ = group_sums_ + rows_ * groups_;
  }

  static int64_t padded(int64_t columns) { return (columns + 255) / 256 * 256; }
  // For each group of 32: codes, a scale and two sums of codes for each plane; a sum and its
  // halves.
  static size_t bytes(int rows, int64_t columns, int planes) {
    const int64_t groups = padded(columns) / activation_group;
    return static_cast<size_t>(rows * groups * (planes * (activation_group + 4 + 8) + 12) + 64);
  }

  int tiles() const { return tiles_; }
  // Tiles are as equal as can be: 9 tokens are 5 and 4, not 8 and 1.
  int first(int tile) const {
    return static_cast<int>(static_cast<int64_t>(tile) * rows_ / tiles_);
  }
  ActivationTile tile(int index) const {
    const int64_t at = first(index) * groups_;
    return {codes_ + at * activation_group * planes_,
            scales_ + at * planes_,
            code_sums_ + at * planes_ * 2,
            group_sums_ + at,
            half_sums_ + at * 2,
            first(index + 1) - first(index),
            planes_};
  }
  ActivationRow row(int index) const {
    int tile_index = static_cast<int>(static_cast<int64_t>(index) * tiles_ / rows_);
    while (first(tile_index) > index) --tile_index;
    while (first(tile_index + 1) <= index) ++tile_index;
    const ActivationTile t = tile(tile_index);
    return {const_cast<int8_t*>(t.codes),
            const_cast<float*>(t.scales),
            const_cast<int32_t*>(t.code_sums),
            const_cast<float*>(t.group_sums),
            const_cast<float*>(t.half_sums),
            t.tokens,
            planes_,
            index - first(tile_index)};
  }

 private:
  int64_t rows_;
  int64_t groups_;
  int planes_;
  int tiles_;
  int8_t* codes_;
  float* scales_;
  int32_t* code_sums_;
  float* group_sums_;
  float* half_sums_;
};

// Up to this many rows, each member prepares the activations for itself: that costs less than a
// barrier.
constexpr int private_rows = 2;

// Activations that stay in the second-level cache while strips of weights pass by.
constexpr int64_t block_bytes = 512 << 10;

class LinearStep final : public Step {
 public:
  LinearStep(const LinearPlan& plan, const StepLimits& limits, int members,
             const KernelTable& kernels)
      : plan_(plan),
        kernels_(kernels),
        columns_(plan.weight->columns()),
        planes_(activation_planes(plan.precision)),
        strips_(plan),
        max_rows_(plan.rows == Rows::tokens ? limits.tokens : limits.outputs),
        chunk_(std::max<int64_t>(1, strips_.count() / (members * 6))) {
    if (choose_linear_path(max_rows_, plan.precision, kernels) == LinearPath::panel) {
      panel_ = std::make_unique<LinearPanel>(plan_, strips_, max_rows_, kernels);
      max_rows_ = kernels.panel.min_tokens - 1;
    }
  }

  std::vector<Value> values() const override { return {plan_.x, plan_.out}; }
  size_t shared_scratch_bytes() const override {
    return std::max(scratch_bytes(max_rows_), panel_ ? panel_->shared_scratch_bytes() : 0);
  }
  size_t member_scratch_bytes() const override {
    return std::max(scratch_bytes(std::min(max_rows_, private_rows)),
                    panel_ ? panel_->member_scratch_bytes() : 0);
  }

  void run(Run& run, int member) override {
    const int rows = run.rows(plan_.rows);
    if (rows == 0) return;
    if (choose_linear_path(rows, plan_.precision, kernels_) == LinearPath::panel) {
      std::atomic<int64_t>& next = run.counters[index];
      return panel_->run(run, member, rows, next);
    }
    const bool own = rows <= private_rows || run.team.size() == 1;
    std::byte* memory =
        rows <= private_rows ? run.member_scratch[member].data() : run.shared_scratch;
    const QuantizedRows codes(memory, rows, columns_, planes_, kernels_.tile_tokens);
    auto* normed = reinterpret_cast<float*>(memory + QuantizedRows::bytes(rows, columns_, planes_));
    const Prepared x = prepared(run, codes, normed);
    split_rows(rows, own ? 1 : run.team.size(), own ? 0 : member,
               [&](int row) { prepare(run, row, codes, normed); });
    if (!own) run.team.barrier();
    const int tiles_at_once = static_cast<int>(
        std::max<int64_t>(1, block_bytes / static_cast<int64_t>(QuantizedRows::bytes(
                                               kernels_.tile_tokens, columns_, planes_))));
    const int64_t strips = strips_.count();
    // Blocks of tokens outside, so that strips are read from memory once for each block.
    const int64_t blocks = (codes.tiles() + tiles_at_once - 1) / tiles_at_once;
    share(run, blocks * strips, blocks == 1 ? chunk_ : std::min<int64_t>(chunk_, 4),
          [&](int64_t item) {
            const auto first = static_cast<int>(item / strips) * tiles_at_once;
            const int last = std::min(first + tiles_at_once, codes.tiles());
            for (int t = first; t < last; ++t) multiply(run, item % strips, x, t);
          });
  }

 private:
  // What the kernels read.
  struct Prepared {
    const QuantizedRows& codes;
    const float* floats;
    int64_t float_stride;
  };

  size_t scratch_bytes(int rows) const {
    return QuantizedRows::bytes(rows, columns_, planes_) + static_cast<size_t>(rows) * columns_ * 4;
  }

  Prepared prepared(const Run& run, const QuantizedRows& codes, const float* normed) const {
    if (plan_.norm != nullptr) return {codes, normed, columns_};
    return {codes, run.arena.at(plan_.x), run.arena.stride(plan_.x)};
  }

  void prepare(const Run& run, int row, const QuantizedRows& codes, float* normed) const {
    const float* x = run.arena.at(plan_.x) + row * run.arena.stride(plan_.x);
    if (plan_.norm != nullptr) {
      float* to = normed + row * columns_;
      kernels_.rms_norm(x, plan_.norm->values(), plan_.eps, columns_, to);
      x = to;
    }
    if (strips_.any_quantized()) kernels_.quantize_row(x, columns_, codes.row(row));
  }

  void dot(const Strip& strip, const Prepared& x, int tile, float* out) const {
    const WeightPart& part = *strip.part;
    const ActivationTile t = x.codes.tile(tile);
    const auto dtype = static_cast<int>(part.dtype);
    const std::byte* tiles = strip.tiles();
    if (is_quantized(part.dtype)) {
      kernels_.dot[dtype][t.tokens](tiles, part.units, t, out);
    } else {
      const float* rows = x.floats + x.codes.first(tile) * x.float_stride;
      kernels_.float_dot[dtype][t.tokens](tiles, part.units, rows, x.float_stride, out);
    }
  }

  void multiply(const Run& run, int64_t item, const Prepared& x, int tile) const {
    alignas(64) float result[max_tile_tokens * strip_rows];
    alignas(64) float up[max_tile_tokens * strip_rows];
    dot(strips_.strip(item), x, tile, result);
    if (strips_.has_up()) dot(strips_.up(item), x, tile, up);
    const int first = x.codes.first(tile);
    strips_.finish(run, item, first, x.codes.first(tile + 1) - first, result, up);
  }

  const LinearPlan plan_;
  const KernelTable& kernels_;
  const int64_t columns_;
  const int planes_;
  const LinearStrips strips_;
  int max_rows_;  // that meet the dot kernels
  const int64_t chunk_;
  std::unique_ptr<LinearPanel> panel_;  // where there may be so many rows
};

}  // namespace

std::unique_ptr<Step> make_linear_step(const LinearPlan& plan, const StepLimits& limits,
                                       int members, const KernelTable& kernels) {
  return std::make_unique<LinearStep>(plan, limits, members, kernels);
}

}  // namespace ridge::backend::cpu
