#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "backend/reference/ops.h"
#include "backend/reference/softmax.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

std::vector<float> scores_of(std::span<const float> logits, Router::Scoring scoring) {
  std::vector<double> scores(logits.begin(), logits.end());
  if (scoring == Router::Scoring::softmax) {
    softmax(scores);
  } else {
    for (double& score : scores) score = 1.0 / (1.0 + std::exp(-score));
  }
  return {scores.begin(), scores.end()};
}

// The indices of the `count` largest values, largest first; ties to the smaller index.
std::vector<int> largest(std::span<const float> values, int count) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
  order.resize(count);
  return order;
}

// Takes the experts of all but the best groups out of the choice: groups of softmaxes by their best
// score (DeepSeek-V2, arXiv 2405.04434, section 2.2.2), of sigmoids by the sum of their two best.
void keep_best_groups(std::span<float> choice, const Router& router) {
  const int size = router.experts / router.groups;
  std::vector<float> group_scores(router.groups);
  for (int g = 0; g < router.groups; ++g) {
    const std::span<const float> members = choice.subspan(g * size, size);
    const int counted = router.scoring == Router::Scoring::sigmoid ? std::min(2, size) : 1;
    for (int e : largest(members, counted)) group_scores[g] += members[e];
  }
  std::vector<bool> kept(router.groups, false);
  for (int g : largest(group_scores, router.top_groups)) kept[g] = true;
  for (int e = 0; e < router.experts; ++e) {
    if (!kept[e / size]) choice[e] = -INFINITY;
  }
}

}  // namespace

void route(Rows32 logits, const Router& router, std::span<const float> selection_bias, Ids ids,
           Rows32 weights) {
  RIDGE_ASSERT(router.top_k <= router.experts / router.groups * router.top_groups);
  for (int t = 0; t < logits.rows; ++t) {
    const std::vector<float> scores = scores_of(logits.row(t), router.scoring);
    std::vector<float> choice = scores;
    for (size_t e = 0; e < selection_bias.size(); ++e) choice[e] += selection_bias[e];
    if (router.groups > 1) keep_best_groups(choice, router);

    const std::vector<int> chosen = largest(choice, router.top_k);
    double sum = 0;
    for (int e : chosen) sum += scores[e];
    const double divisor = router.normalize ? sum + 1e-20 : 1.0;
    for (int j = 0; j < router.top_k; ++j) {
      ids.row(t)[j] = chosen[j];
      weights.row(t)[j] = static_cast<float>(scores[chosen[j]] / divisor * router.scale);
    }
  }
}

}  // namespace ridge::backend::reference
