#include <algorithm>
#include <cmath>

#include "backend/cpu/steps.h"

// route: few numbers for each token, of which the choice must not depend on roundings, so all is in
// double, and scores are rounded to float32 once.
namespace ridge::backend::cpu {

namespace {

// The `count` largest values' indices, largest first, ties to the smaller index; always distinct
// and in range, whatever the values.
void find_largest(const float* values, int size, int count, int32_t* found) {
  int known = 0;
  for (int i = 0; i < size; ++i) {
    int at = known;
    while (at > 0 && values[i] > values[found[at - 1]]) --at;
    if (at == count) continue;
    if (known < count) ++known;
    for (int last = known - 1; last > at; --last) found[last] = found[last - 1];
    found[at] = i;
  }
}

class RouteStep final : public Step {
 public:
  RouteStep(const Route& op, Rows rows)
      : op_(op), bias_(static_cast<const CpuWeight*>(op.router.selection_bias)), rows_(rows) {}

  std::vector<Value> values() const override { return {op_.logits, op_.ids, op_.weights}; }
  size_t member_scratch_bytes() const override {
    const size_t experts = op_.router.experts;
    return experts * (sizeof(double) + 3 * sizeof(float)) + 64;
  }

  void run(Run& run, int member) override {
    const Router& router = op_.router;
    const Arena& arena = run.arena;
    auto* exact = reinterpret_cast<double*>(run.member_scratch[member].data());
    auto* scores = reinterpret_cast<float*>(exact + router.experts);
    float* choice = scores + router.experts;
    auto* scratch = choice + router.experts;
    split_rows(run.rows(rows_), run.members, member, [&](int row) {
      score(arena.at(op_.logits) + row * arena.stride(op_.logits), exact, scores);
      for (int e = 0; e < router.experts; ++e) {
        choice[e] = scores[e] + (bias_ != nullptr ? bias_->values()[e] : 0.0f);
      }
      if (router.groups > 1) keep_best_groups(choice, scratch);
      choose(choice, scores, arena.ids_at(op_.ids) + row * arena.stride(op_.ids),
             arena.at(op_.weights) + row * arena.stride(op_.weights));
    });
  }

 private:
  void score(const float* logits, double* exact, float* scores) const {
    const int experts = op_.router.experts;
    double sum = 1;
    if (op_.router.scoring == Router::Scoring::softmax) {
      const float largest = *std::max_element(logits, logits + experts);
      sum = 0;
      for (int e = 0; e < experts; ++e) {
        exact[e] = std::exp(static_cast<double>(logits[e]) - largest);
        sum += exact[e];
      }
    } else {
      for (int e = 0; e < experts; ++e) exact[e] = 1 / (1 + std::exp(-double{logits[e]}));
    }
    for (int e = 0; e < experts; ++e) scores[e] = static_cast<float>(exact[e] / sum);
  }

  // Takes the experts of all but the best groups out of the choice. A group's score is its best, or
  // of sigmoids the sum of its two best.
  //   scratch: [experts]
  void keep_best_groups(float* choice, float* scratch) const {
    const Router& router = op_.router;
    const int size = router.experts / router.groups;
    const bool sums_two = router.scoring == Router::Scoring::sigmoid && size > 1;
    float* group_scores = scratch;
    for (int g = 0; g < router.groups; ++g) {
      int32_t best[2];
      find_largest(choice + g * size, size, sums_two ? 2 : 1, best);
      group_scores[g] = choice[g * size + best[0]];
      if (sums_two) group_scores[g] += choice[g * size + best[1]];
    }
    for (int g = 0; g < router.groups; ++g) {
      int before = 0;
      for (int other = 0; other < router.groups; ++other) {
        before += group_scores[other] > group_scores[g] ||
                  (group_scores[other] == group_scores[g] && other < g);
      }
      if (before >= router.top_groups) std::fill_n(choice + g * size, size, -INFINITY);
    }
  }

  void choose(const float* choice, const float* scores, int32_t* ids, float* weights) const {
    const Router& router = op_.router;
    find_largest(choice, router.experts, router.top_k, ids);
    double sum = 0;
    for (int j = 0; j < router.top_k; ++j) sum += scores[ids[j]];
    const double divisor = router.normalize ? sum + 1e-20 : 1;
    for (int j = 0; j < router.top_k; ++j) {
      weights[j] = static_cast<float>(scores[ids[j]] / divisor * router.scale);
    }
  }

  const Route op_;
  const CpuWeight* bias_;
  const Rows rows_;
};

}  // namespace

std::unique_ptr<Step> make_route_step(const Route& op, Rows rows) {
  return std::make_unique<RouteStep>(op, rows);
}

}  // namespace ridge::backend::cpu
