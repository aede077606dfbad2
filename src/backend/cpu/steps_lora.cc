#include <fmt/format.h>

#include <algorithm>

#include "backend/cpu/linear_strips.h"
#include "backend/cpu/steps.h"
#include "base/error.h"

// lora_linear. The rows of a step that one adapter serves stand together in runs (a sequence's
// tokens are neighbours), so runs of up to a tile of rows meet both matrices without being sorted.
// Adapters are small beside the weights that they change: their reads come from the caches.
namespace ridge::backend::cpu {

namespace {

class LoraStep final : public Step {
 public:
  LoraStep(const LoraLinear& op, const StepLimits& limits, const KernelTable& kernels)
      : op_(op), kernels_(kernels), max_tokens_(limits.tokens) {
    for (const Adapter& adapter : op.adapters) {
      downs_.push_back(strips_of(adapter.down));
      ups_.push_back(strips_of(adapter.up));
      most_strips_ = std::max(most_strips_, ups_.back().count());
      rank_stride_ = std::max(rank_stride_, adapter.down->rows());
    }
  }

  std::vector<Value> values() const override { return {op_.x, op_.out}; }
  size_t shared_scratch_bytes() const override {
    return static_cast<size_t>(max_tokens_) * rank_stride_ * sizeof(float);
  }

  void run(Run& run, int member) override {
    if (run.shape.tokens == 0) return;
    const auto low = reinterpret_cast<float*>(run.shared_scratch);  // [T, rank_stride]
    const Arena& arena = run.arena;
    // A tile's rows are for one member: ranks are too small to share.
    int tile = 0;
    each_tile(run, [&](int first, int count, int adapter) {
      if (tile++ % run.team.size() != member) return;
      const float* x = arena.at(op_.x) + first * arena.stride(op_.x);
      const LinearStrips& strips = downs_[adapter];
      for (int64_t s = 0; s < strips.count(); ++s) {
        const auto store = [&](int row, float value, int64_t column) {
          low[(first + row) * rank_stride_ + column] = value;
        };
        multiply(strips.strip(s), x, arena.stride(op_.x), count, store);
      }
    });
    run.team.barrier();
    share(run, most_strips_, 4, [&](int64_t s) {
      each_tile(run, [&](int first, int count, int adapter) {
        if (s >= ups_[adapter].count()) return;
        const float scale = op_.adapters[adapter].scale;
        float* out = arena.at(op_.out) + first * arena.stride(op_.out);
        const auto add = [&](int row, float value, int64_t column) {
          out[row * arena.stride(op_.out) + column] += scale * value;
        };
        multiply(ups_[adapter].strip(s), low + first * rank_stride_, rank_stride_, count, add);
      });
    });
  }

 private:
  static LinearStrips strips_of(const Weight* weight) {
    LinearStrips strips(LinearPlan{.weight = static_cast<const CpuWeight*>(weight)});
    if (strips.any_quantized()) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("weight {}: the cpu back end takes adapters in f32, f16 or bf16",
                              weight->name()));
    }
    return strips;
  }

  // Calls fn(first row, rows, adapter) for the rows that have adapters, a tile of neighbours with
  // the same one at a time.
  template <typename Fn>
  void each_tile(const Run& run, Fn fn) const {
    const int32_t* adapters = run.inputs.adapter_of_row;
    RIDGE_ASSERT(adapters != nullptr);
    for (int first = 0, end = 0; first < run.shape.tokens; first = end) {
      const int adapter = adapters[first];
      RIDGE_ASSERT(adapter < static_cast<int>(op_.adapters.size()));
      end = first + 1;
      while (end < run.shape.tokens && adapters[end] == adapter &&
             end - first < kernels_.tile_rows) {
        ++end;
      }
      if (adapter >= 0) fn(first, end - first, adapter);
    }
  }

  // store(row, value, output column) for a strip's part of the product with `count` rows of x.
  template <typename Store>
  void multiply(const Strip& strip, const float* x, int64_t stride, int count, Store store) const {
    alignas(64) float result[max_tile_rows * strip_rows];
    const WeightPart& part = *strip.part;
    kernels_.float_dot[static_cast<int>(part.dtype)][count](strip.tiles(), part.units, x, stride,
                                                            result);
    const int64_t column = strip.index * strip_rows;
    const int64_t columns = std::min<int64_t>(strip_rows, part.rows - column);
    for (int row = 0; row < count; ++row) {
      for (int64_t c = 0; c < columns; ++c) {
        store(row, result[row * strip_rows + c], part.first_row + column + c);
      }
    }
  }

  const LoraLinear op_;
  const KernelTable& kernels_;
  const int max_tokens_;
  std::vector<LinearStrips> downs_, ups_;  // of each adapter
  int64_t most_strips_ = 0;                // of any `up`
  int64_t rank_stride_ = 0;                // the largest rank
};

}  // namespace

std::unique_ptr<Step> make_lora_step(const LoraLinear& op, const StepLimits& limits,
                                     const KernelTable& kernels) {
  return std::make_unique<LoraStep>(op, limits, kernels);
}

}  // namespace ridge::backend::cpu
