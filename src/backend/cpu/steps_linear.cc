#include <algorithm>
#include <cstring>

#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Rows of activations quantised in tiles (see ActivationTile), over memory that somebody lends.
class QuantizedRows {
 public:
  QuantizedRows(std::byte* memory, int rows, int64_t columns, int tile_tokens)
      : rows_(rows), columns_(padded(columns)), tiles_((rows + tile_tokens - 1) / tile_tokens) {
    codes_ = reinterpret_cast<int8_t*>(memory);
    scales_ = reinterpret_cast<float*>(codes_ + rows_ * columns_ * activation_planes);
    sums_ = scales_ + rows_ * columns_ / activation_group;
  }

  static int64_t padded(int64_t columns) { return (columns + 255) / 256 * 256; }
  static size_t bytes(int rows, int64_t columns) {
    // Two codes, a quarter of a byte of sums and an eighth of scales for each column.
    return static_cast<size_t>(rows) * padded(columns) * (8 * activation_planes + 3) / 8 + 64;
  }

  int tiles() const { return tiles_; }
  // Tiles are as equal as can be: 9 tokens are 5 and 4, not 8 and 1.
  int first(int tile) const {
    return static_cast<int>(static_cast<int64_t>(tile) * rows_ / tiles_);
  }
  ActivationTile tile(int index) const {
    const int64_t at = first(index);
    return {codes_ + at * columns_ * activation_planes, scales_ + at * columns_ / activation_group,
            sums_ + at * columns_ / 16, first(index + 1) - first(index)};
  }
  ActivationRow row(int index) const {
    int tile_index = static_cast<int>(static_cast<int64_t>(index) * tiles_ / rows_);
    while (first(tile_index) > index) --tile_index;
    while (first(tile_index + 1) <= index) ++tile_index;
    const ActivationTile t = tile(tile_index);
    return {const_cast<int8_t*>(t.codes), const_cast<float*>(t.scales), const_cast<float*>(t.sums),
            t.tokens, index - first(tile_index)};
  }

 private:
  int64_t rows_;
  int64_t columns_;
  int tiles_;
  int8_t* codes_;
  float* scales_;
  float* sums_;
};

// Up to this many rows, each member prepares the activations for itself: that costs less than a
// barrier.
constexpr int private_rows = 2;

// Activations that stay in the second-level cache while strips of weights pass by.
constexpr int64_t block_bytes = 384 << 10;

class LinearStep final : public Step {
 public:
  LinearStep(const LinearPlan& plan, const StepLimits& limits, int members,
             const KernelTable& kernels)
      : plan_(plan), kernels_(kernels), columns_(plan.weight->columns()) {
    max_rows_ = plan.rows == Rows::tokens ? limits.tokens : limits.outputs;
    for (const WeightPart& part : plan.weight->parts()) {
      needs_codes_ |= is_quantized(part.dtype);
      const int64_t last = plan.activation ? plan.weight->rows() / 2 : plan.weight->rows();
      for (int64_t s = 0; s < part.strips(); ++s) {
        const int64_t row = part.first_row + s * strip_rows;
        if (row < last) strips_.push_back({&part, s});
      }
    }
    if (plan.activation) {
      for (const Strip& gate : strips_) {
        up_strips_.push_back(find(gate.part->first_row + gate.index * strip_rows +
                                  plan.weight->rows() / 2));
      }
    }
    chunk_ = std::max<int64_t>(1, static_cast<int64_t>(strips_.size()) / (members * 6));
  }

  std::vector<Value> values() const override { return {plan_.x, plan_.out}; }
  size_t shared_scratch_bytes() const override { return scratch_bytes(max_rows_); }
  size_t member_scratch_bytes() const override {
    return scratch_bytes(std::min(max_rows_, private_rows));
  }

  void run(Run& run, int member) override {
    const int rows = run.rows(plan_.rows);
    if (rows == 0) return;
    const bool own = rows <= private_rows || run.team.size() == 1;
    std::byte* memory = rows <= private_rows ? run.member_scratch[member].data() : run.shared_scratch;
    const QuantizedRows codes(memory, rows, columns_, kernels_.tile_tokens);
    auto* normed = reinterpret_cast<float*>(memory + QuantizedRows::bytes(rows, columns_));
    const Prepared x = prepared(run, codes, normed);
    split_rows(rows, own ? 1 : run.team.size(), own ? 0 : member,
               [&](int row) { prepare(run, row, codes, normed); });
    if (!own) run.team.barrier();
    const int tiles_at_once = static_cast<int>(std::max<int64_t>(
        1, block_bytes / static_cast<int64_t>(
               QuantizedRows::bytes(kernels_.tile_tokens, columns_))));
    const auto strips = static_cast<int64_t>(strips_.size());
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
  struct Strip {
    const WeightPart* part;
    int64_t index;
  };

  // What the kernels read.
  struct Prepared {
    const QuantizedRows& codes;
    const float* floats;
    int64_t float_stride;
  };

  Strip find(int64_t row) const {
    for (const WeightPart& part : plan_.weight->parts()) {
      if (row >= part.first_row && row < part.first_row + part.rows) {
        return {&part, (row - part.first_row) / strip_rows};
      }
    }
    RIDGE_ASSERT(!"a row of the weight");
  }

  size_t scratch_bytes(int rows) const {
    return QuantizedRows::bytes(rows, columns_) + static_cast<size_t>(rows) * columns_ * 4;
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
    if (needs_codes_) kernels_.quantize_row(x, columns_, codes.row(row));
  }

  void dot(const Strip& strip, const Prepared& x, int tile, float* out) const {
    const WeightPart& part = *strip.part;
    const ActivationTile t = x.codes.tile(tile);
    const auto dtype = static_cast<int>(part.dtype);
    const std::byte* tiles = part.strip(strip.index);
    if (is_quantized(part.dtype)) {
      kernels_.dot[dtype][t.tokens](tiles, part.units, t, out);
    } else {
      const float* rows = x.floats + x.codes.first(tile) * x.float_stride;
      kernels_.float_dot[dtype][t.tokens](tiles, part.units, rows, x.float_stride, out);
    }
  }

  void multiply(const Run& run, int64_t item, const Prepared& x, int tile) const {
    alignas(64) float result[max_tile_tokens * strip_rows];
    const Strip& strip = strips_[item];
    dot(strip, x, tile, result);
    const int64_t row = strip.part->first_row + strip.index * strip_rows;
    const int64_t left = strip.part->rows - strip.index * strip_rows;
    const auto count = static_cast<int>(std::min<int64_t>(left, strip_rows));
    const int first = x.codes.first(tile);
    const int tokens = x.codes.first(tile + 1) - first;
    if (plan_.activation) {
      alignas(64) float up[max_tile_tokens * strip_rows];
      dot(up_strips_[item], x, tile, up);
      kernels_.gated_activation(result, up, *plan_.activation, tokens * strip_rows, result);
    }
    const int64_t stride = run.arena.stride(plan_.out);
    float* out = run.arena.at(plan_.out) + first * stride + row;
    const float* bias = plan_.bias == nullptr ? nullptr : plan_.bias->values() + row;
    for (int t = 0; t < tokens; ++t, out += stride) {
      store(result + t * strip_rows, bias, count, out);
    }
  }

  void store(const float* result, const float* bias, int count, float* out) const {
    if (plan_.accumulate) {
      for (int i = 0; i < count; ++i) out[i] += result[i] + (bias != nullptr ? bias[i] : 0.0f);
    } else if (bias != nullptr) {
      for (int i = 0; i < count; ++i) out[i] = result[i] + bias[i];
    } else {
      std::memcpy(out, result, count * sizeof(float));
    }
  }

  const LinearPlan plan_;
  const KernelTable& kernels_;
  const int64_t columns_;
  int max_rows_ = 0;
  bool needs_codes_ = false;
  std::vector<Strip> strips_;
  std::vector<Strip> up_strips_;  // of the same places, with an activation
  int64_t chunk_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_linear_step(const LinearPlan& plan, const StepLimits& limits, int members,
                                       const KernelTable& kernels) {
  return std::make_unique<LinearStep>(plan, limits, members, kernels);
}

}  // namespace ridge::backend::cpu
