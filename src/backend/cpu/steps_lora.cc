#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

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
  LoraStep(const LoraLinear& op, Rows rows, const StepLimits& limits, const KernelTable& kernels)
      : op_(op),
        rows_(rows),
        kernels_(kernels),
        max_rows_(rows == Rows::tokens ? limits.tokens : limits.outputs) {
    for (const Adapter& adapter : op.adapters) {
      if (adapter.down == nullptr) {
        downs_.emplace_back();
        ups_.emplace_back();
        continue;
      }
      downs_.push_back(strips_of(adapter.down));
      ups_.push_back(strips_of(adapter.up));
      most_strips_ = std::max(most_strips_, ups_.back()->count());
      rank_stride_ = std::max(rank_stride_, adapter.down->rows());
    }
  }

  std::vector<Value> values() const override { return {op_.x, op_.out}; }
  size_t shared_scratch_bytes() const override {
    return static_cast<size_t>(max_rows_) * rank_stride_ * sizeof(float);
  }

  void run(Run& run, int member) override {
    // Alike for all members, so that either all of them meet the barrier or none.
    const std::vector<Tile> tiles = tiles_of(run);
    if (tiles.empty()) return;
    const auto low = reinterpret_cast<float*>(run.shared_scratch);  // [rows, rank_stride]
    const Arena& arena = run.arena;
    // A tile's rows are for one member: ranks are too small to share.
    for (size_t i = static_cast<size_t>(member); i < tiles.size();
         i += static_cast<size_t>(run.members)) {
      const auto [first, count, adapter] = tiles[i];
      const float* x = arena.at(op_.x) + first * arena.stride(op_.x);
      const LinearStrips& strips = *downs_[adapter];
      for (int64_t s = 0; s < strips.count(); ++s) {
        const auto store = [&, first = first](int row, float value, int64_t column) {
          low[(first + row) * rank_stride_ + column] = value;
        };
        multiply(strips.strip(s), x, arena.stride(op_.x), count, store);
      }
    }
    run.team.barrier();
    share(run, most_strips_, 4, [&](int64_t s) {
      for (const auto& [first, count, adapter] : tiles) {
        if (s >= ups_[adapter]->count()) continue;
        const float scale = op_.adapters[adapter].scale;
        float* out = arena.at(op_.out) + first * arena.stride(op_.out);
        const auto add = [&](int row, float value, int64_t column) {
          out[row * arena.stride(op_.out) + column] += scale * value;
        };
        multiply(ups_[adapter]->strip(s), low + first * rank_stride_, rank_stride_, count, add);
      }
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

  // The adapter that changes the row, or -1.
  int adapter_of(const Run& run, int row) const {
    const int token = rows_ == Rows::tokens ? row : run.inputs.output_rows[row];
    const int adapter = run.inputs.adapter_of_row[token];
    RIDGE_ASSERT(adapter < static_cast<int>(op_.adapters.size()));
    return adapter >= 0 && downs_[adapter] ? adapter : -1;
  }

  // Neighbours with the same adapter, of those rows that have one.
  struct Tile {
    int first;
    int count;
    int adapter;
  };
  std::vector<Tile> tiles_of(const Run& run) const {
    RIDGE_ASSERT(run.inputs.adapter_of_row != nullptr);
    std::vector<Tile> tiles;
    const int rows = run.rows(rows_);
    for (int first = 0, end = 0; first < rows; first = end) {
      const int adapter = adapter_of(run, first);
      end = first + 1;
      while (end < rows && end - first < kernels_.tile_rows && adapter_of(run, end) == adapter) {
        ++end;
      }
      if (adapter >= 0) tiles.push_back({first, end - first, adapter});
    }
    return tiles;
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
  const Rows rows_;
  const KernelTable& kernels_;
  const int max_rows_;
  // Of each adapter; none where it leaves the linear as it is.
  std::vector<std::optional<LinearStrips>> downs_, ups_;
  int64_t most_strips_ = 0;  // of any `up`
  int64_t rank_stride_ = 0;  // the largest rank
};

}  // namespace

std::unique_ptr<Step> make_lora_step(const LoraLinear& op, Rows rows, const StepLimits& limits,
                                     const KernelTable& kernels) {
  return std::make_unique<LoraStep>(op, rows, limits, kernels);
}

}  // namespace ridge::backend::cpu
