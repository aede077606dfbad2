#include <algorithm>

#include "backend/cpu/isa.h"
#include "backend/cpu/linear_byte_panel.h"
#include "backend/cpu/linear_path.h"
#include "backend/cpu/linear_strips.h"
#include "backend/cpu/linear_word_panel.h"
#include "backend/cpu/quantized_tokens.h"
#include "backend/cpu/steps_linear_panel.h"
#include "backend/cpu/steps_linear_scaled.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Up to this many rows, each member prepares the activations for itself: that costs less than a
// barrier.
constexpr int private_rows = 2;

// Activations that stay in the second-level cache while strips of weights pass by.
constexpr int64_t block_bytes = 512 << 10;

// A thread that reads less than this at a place, and then elsewhere, reads more slowly.
constexpr int64_t least_chunk_bytes = 64 << 10;

// From so many rows of activations on, the next strip is fetched while this one is multiplied. With
// fewer, a strip passes as fast as memory gives it, and few_rows_read_ahead() says what helps.
constexpr int fetching_rows = 6;

class LinearStep final : public Step {
 public:
  LinearStep(const LinearPlan& plan, const StepLimits& limits, int members,
             const KernelTable& kernels)
      : plan_(plan),
        kernels_(kernels),
        columns_(plan.weight->columns()),
        strips_(plan),
        fits_{strips_.fits(kernels.byte_panel), strips_.fits(kernels.word_panel)},
        planes_(strips_.any_quantized() ? activation_planes(plan.precision) : 1),
        max_rows_(plan.rows == Rows::tokens ? limits.tokens : limits.outputs),
        chunk_(std::max<int64_t>(1, strips_.count() / (members * 6))),
        least_strips_(std::clamp<int64_t>(
            least_chunk_bytes / static_cast<int64_t>(strips_.strip(0).part->strip_bytes), 1,
            chunk_)) {
    if (LinearScaled::serves(plan_, strips_, kernels)) {
      scaled_ = std::make_unique<LinearScaled>(
          plan_, strips_, std::min(max_rows_, kernels.scaled.max_tokens), members, kernels);
    }
    if (path(max_rows_) == LinearPath::byte_panel) {
      byte_panel_ = std::make_unique<LinearBytePanel>(plan_, strips_, max_rows_, kernels);
      max_rows_ = kernels.byte_panel.min_rows - 1;
    }
    if (path(max_rows_) == LinearPath::word_panel) {
      word_panel_ = std::make_unique<LinearWordPanel>(plan_, strips_, max_rows_, kernels);
      max_rows_ = kernels.word_panel.min_rows - 1;
    }
    if (path(max_rows_) == LinearPath::panel) {
      panel_ = std::make_unique<LinearPanel>(plan_, strips_, max_rows_, kernels);
      max_rows_ = kernels.panel.min_tokens[panel_parts(plan.precision) - 1] - 1;
    }
  }

  std::vector<Value> values() const override { return {plan_.x, plan_.out}; }
  size_t shared_scratch_bytes() const override {
    return std::max({scratch_bytes(max_rows_),
                     byte_panel_ ? byte_panel_->shared_scratch_bytes() : 0,
                     word_panel_ ? word_panel_->shared_scratch_bytes() : 0,
                     panel_ ? panel_->shared_scratch_bytes() : 0,
                     scaled_ ? scaled_->shared_scratch_bytes() : 0});
  }
  size_t member_scratch_bytes() const override {
    return std::max({scratch_bytes(std::min(max_rows_, private_rows)),
                     byte_panel_ ? byte_panel_->member_scratch_bytes() : 0,
                     word_panel_ ? word_panel_->member_scratch_bytes() : 0,
                     panel_ ? panel_->member_scratch_bytes() : 0,
                     scaled_ ? scaled_->member_scratch_bytes() : 0});
  }

  void run(Run& run, int member) override {
    const int rows = run.rows(plan_.rows);
    if (rows == 0) return;
    if (scaled_ && rows >= kernels_.scaled.min_tokens && rows <= kernels_.scaled.max_tokens) {
      return scaled_->run(run, member, rows, run.counters[index]);
    }
    const LinearPath way = path(rows);
    // No other path knows packed tokens.
    RIDGE_ASSERT(way == LinearPath::panel || !(plan_.x_packed || plan_.out_packed) ||
                 !all_take_panels(rows, kernels_));
    if (way == LinearPath::panel) {
      std::atomic<int64_t>& next = run.counters[index];
      return panel_->run(run, member, rows, next);
    }
    if (way == LinearPath::byte_panel) {
      return byte_panel_->run(run, member, rows, run.counters[index]);
    }
    if (way == LinearPath::word_panel) {
      return word_panel_->run(run, member, rows, run.counters[index]);
    }
    const bool tiled = way == LinearPath::tile_dot;
    const int tile_rows = tiled ? max_dot_rows : kernels_.tile_rows;
    const bool own = rows <= private_rows || run.members == 1;
    std::byte* memory =
        rows <= private_rows ? run.member_scratch[member].data() : run.shared_scratch;
    const QuantizedTokens codes(memory, rows, columns_, planes_, tile_rows);
    auto* normed =
        reinterpret_cast<float*>(memory + QuantizedTokens::bytes(rows, columns_, planes_));
    const Prepared x = prepared(run, codes, normed, tiled);
    split_rows(rows, own ? 1 : run.members, own ? 0 : member,
               [&](int row) { prepare(run, row, x, normed); });
    if (!own) run.team.barrier();
    const int tiles_at_once = static_cast<int>(std::max<int64_t>(
        1,
        block_bytes / static_cast<int64_t>(QuantizedTokens::bytes(tile_rows, columns_, planes_))));
    const int64_t strips = strips_.count();
    // Blocks of tokens outside, so that strips are read from memory once for each block.
    const int64_t blocks = (codes.tiles() + tiles_at_once - 1) / tiles_at_once;
    int configured = 0;
    const auto multiply_strip = [&](int64_t item) {
      const auto first = static_cast<int>(item / strips) * tiles_at_once;
      const int last = std::min(first + tiles_at_once, codes.tiles());
      for (int t = first; t < last; ++t) {
        // The last tile leaves the caches to the next strip.
        const bool fetch = t + 1 == last && item % strips + 1 < strips;
        if (tiled) configure(codes.tile(t).rows(), configured);
        multiply(run, item % strips, x, t, fetch);
      }
    };
    if (blocks == 1) {
      share_tapering(run, strips, least_strips_, multiply_strip);
    } else {
      share(run, blocks * strips, std::min<int64_t>(chunk_, 4), multiply_strip);
    }
    if (configured != 0) kernels_.tiles.end();
  }

 private:
  // What the kernels read.
  struct Prepared {
    const QuantizedTokens& codes;
    const float* floats;
    int64_t float_stride;
    bool tiled;  // codes lie as TileDotKernels wants them
  };

  LinearPath path(int rows) const {
    return choose_linear_path(rows, plan_.precision, strips_.all_quantized(), fits_, kernels_);
  }

  // This thread's tiles for so many rows, where they differ from those before.
  void configure(int rows, int& configured) const {
    if (rows != configured) kernels_.tiles.begin(rows);
    configured = rows;
  }

  size_t scratch_bytes(int rows) const {
    return QuantizedTokens::bytes(rows, columns_, planes_) +
           static_cast<size_t>(rows) * columns_ * 4;
  }

  Prepared prepared(const Run& run, const QuantizedTokens& codes, const float* normed,
                    bool tiled) const {
    if (plan_.norm != nullptr) return {codes, normed, columns_, tiled};
    return {codes, run.arena.at(plan_.x), run.arena.stride(plan_.x), tiled};
  }

  void prepare(const Run& run, int row, const Prepared& to, float* normed) const {
    const float* x = input_row(plan_, run, row, kernels_, normed + row * columns_);
    if (!strips_.any_quantized()) return;
    const auto quantize = to.tiled ? kernels_.tiles.quantize_row : kernels_.quantize_row;
    quantize(x, columns_, to.codes.rows(row));
  }

  // out[tokens][16]; `next` is the strip that will follow, or null.
  void dot(const Strip& strip, const Prepared& x, int tile, const Strip* next, float* out) const {
    const WeightPart& part = *strip.part;
    const auto dtype = static_cast<int>(part.dtype);
    const int first = x.codes.first(tile);
    const int tokens = x.codes.first(tile + 1) - first;
    if (!is_quantized(part.dtype)) {
      const float* rows = x.floats + first * x.float_stride;
      return kernels_.float_dot[dtype][tokens](strip.tiles(), part.units, rows, x.float_stride,
                                               out);
    }
    const ActivationTile t = x.codes.tile(tile);
    const std::byte* fetched = nullptr;
    if (t.rows() < fetching_rows) {
      if (read_ahead_ > 0) fetched = strip.tiles() + read_ahead_;
    } else if (next != nullptr && next->part == strip.part) {
      fetched = next->tiles();
    }
    const DotTile multiply =
        x.tiled ? kernels_.tiles.dot[dtype] : kernels_.dot[planes_ - 1][dtype][t.tokens];
    multiply(strip.tiles(), part.units, t, fetched, out);
  }

  void multiply(const Run& run, int64_t item, const Prepared& x, int tile, bool fetch) const {
    alignas(64) float result[max_dot_rows * strip_rows];
    alignas(64) float up[max_dot_rows * strip_rows];
    dot(strips_.strip(item), x, tile, fetch ? &strips_.strip(item + 1) : nullptr, result);
    if (strips_.has_up()) {
      dot(strips_.up(item), x, tile, fetch ? &strips_.up(item + 1) : nullptr, up);
    }
    const int first = x.codes.first(tile);
    strips_.finish(run, item, first, x.codes.first(tile + 1) - first, result, up);
  }

  const LinearPlan plan_;
  const KernelTable& kernels_;
  const int64_t columns_;
  const LinearStrips strips_;
  const PanelFits fits_;
  const int64_t read_ahead_ = few_rows_read_ahead();
  const int planes_;
  int max_rows_;  // that meet the dot kernels
  const int64_t chunk_;
  const int64_t least_strips_;
  std::unique_ptr<LinearBytePanel> byte_panel_;  // where there may be so many rows
  std::unique_ptr<LinearWordPanel> word_panel_;  // likewise
  std::unique_ptr<LinearPanel> panel_;           // likewise
  std::unique_ptr<LinearScaled> scaled_;         // where the weights have such kernels
};

}  // namespace

std::unique_ptr<Step> make_linear_step(const LinearPlan& plan, const StepLimits& limits,
                                       int members, const KernelTable& kernels) {
  return std::make_unique<LinearStep>(plan, limits, members, kernels);
}

}  // namespace ridge::backend::cpu
