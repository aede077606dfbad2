#include "backend/cpu/linear_strips.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

const float* input_row(const LinearPlan& plan, const Run& run, int row, const KernelTable& kernels,
                       float* normed) {
  const float* x = run.arena.at(plan.x) + row * run.arena.stride(plan.x);
  if (plan.norm == nullptr) return x;
  kernels.rms_norm(x, plan.norm->values(), plan.eps, plan.weight->columns(), normed);
  return normed;
}

std::optional<PanelWork> take_panel_work(std::atomic<int64_t>& next, int tiles, int most_tiles,
                                         int64_t pairs, int64_t most_pairs, int members) {
  const int blocks = (tiles + most_tiles - 1) / most_tiles;
  const auto chunk = take_chunk(
      next,
      {.items = blocks * pairs, .divisor = int64_t{3} * members, .most = most_pairs, .row = pairs});
  if (!chunk) return std::nullopt;
  const auto block = static_cast<int>(chunk->first / pairs);
  const int64_t before = block * pairs;
  return PanelWork{block * tiles / blocks, (block + 1) * tiles / blocks, chunk->first - before,
                   chunk->last - before};
}

LinearStrips::LinearStrips(const LinearPlan& plan) : plan_(plan) {
  const int64_t last = plan.activation ? plan.weight->rows() / 2 : plan.weight->rows();
  for (const WeightPart& part : plan.weight->parts()) {
    all_quantized_ &= is_quantized(part.dtype);
    any_quantized_ |= is_quantized(part.dtype);
    for (int64_t s = 0; s < part.strips(); ++s) {
      if (part.first_row + s * strip_rows < last) strips_.push_back({&part, s});
    }
  }
  if (!plan.activation) return;
  for (const Strip& gate : strips_) {
    up_strips_.push_back(
        find(gate.part->first_row + gate.index * strip_rows + plan.weight->rows() / 2));
  }
}

Strip LinearStrips::find(int64_t row) const {
  for (const WeightPart& part : plan_.weight->parts()) {
    if (row >= part.first_row && row < part.first_row + part.rows) {
      return {&part, (row - part.first_row) / strip_rows};
    }
  }
  RIDGE_ASSERT(!"a row of the weight");
}

std::vector<OutputPair> LinearStrips::pairs() const {
  std::vector<OutputPair> pairs;
  for (int64_t item = 0; item < count(); item += pairs.back().outputs) {
    OutputPair pair{item, 1, &strips_[item], nullptr};
    if (has_up()) {
      pair.second = &up_strips_[item];
    } else if (item + 1 < count() && strips_[item + 1].part->dtype == pair.first->part->dtype) {
      pair.second = &strips_[item + 1];
      pair.outputs = 2;
    }
    pairs.push_back(pair);
  }
  return pairs;
}

void LinearStrips::fetch_outputs(const Run& run, const OutputPair& pair, int first_token,
                                 int tokens) const {
  for (int i = 0; i < pair.outputs; ++i) fetch_outputs(run, pair.item + i, first_token, tokens);
}

void LinearStrips::finish(const Run& run, const OutputPair& pair, int first_token, int tokens,
                          const float* results) const {
  const float* second = results + tokens * strip_rows;
  finish(run, pair.item, first_token, tokens, results, has_up() ? second : nullptr);
  if (pair.outputs == 2) finish(run, pair.item + 1, first_token, tokens, second, nullptr);
}

void LinearStrips::fetch_outputs(const Run& run, int64_t item, int first_token, int tokens) const {
  const Strip& strip = strips_[item];
  const int64_t stride = run.arena.stride(plan_.out);
  const float* out = run.arena.at(plan_.out) + first_token * stride + strip.part->first_row +
                     strip.index * strip_rows;
  for (int t = 0; t < tokens; ++t, out += stride) __builtin_prefetch(out, 1, 2);
}

void LinearStrips::finish(const Run& run, int64_t item, int first_token, int tokens,
                          const float* result, const float* up) const {
  const Strip& strip = strips_[item];
  const int64_t row = strip.part->first_row + strip.index * strip_rows;
  const int64_t left = strip.part->rows - strip.index * strip_rows;
  const auto count = static_cast<int>(std::min<int64_t>(left, strip_rows));
  const int64_t stride = run.arena.stride(plan_.out);
  float* out = run.arena.at(plan_.out) + first_token * stride + row;
  const Activation* activation = plan_.activation ? &*plan_.activation : nullptr;
  const float* bias = plan_.bias == nullptr ? nullptr : plan_.bias->values() + row;
  if (count == strip_rows) {
    return run.kernels.finish_strip(
        {result, up, activation, bias, tokens, out, stride, plan_.accumulate});
  }
  // The last rows of a weight. An activation is fused where a half of the rows are whole strips.
  RIDGE_ASSERT(activation == nullptr);
  for (int t = 0; t < tokens; ++t, result += strip_rows, out += stride) {
    for (int i = 0; i < count; ++i) {
      const float x = result[i] + (bias != nullptr ? bias[i] : 0.0f);
      out[i] = plan_.accumulate ? out[i] + x : x;
    }
  }
}

}  // namespace ridge::backend::cpu
