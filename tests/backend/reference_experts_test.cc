#include <cmath>

#include "backend/arrays.h"

namespace ridge::backend::reference {

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Routed {
  std::vector<int32_t> ids;
  Array weights;
};

Routed route_one(const std::vector<float>& logits, const Router& router,
                 const std::vector<float>& bias = {}) {
  Array row(1, static_cast<int>(logits.size()), logits);
  Routed routed{std::vector<int32_t>(router.top_k), Array(1, router.top_k)};
  route(row, router, bias, {routed.ids.data(), 1, router.top_k, router.top_k}, routed.weights);
  return routed;
}

TEST(ReferenceRoute, SoftmaxOverAllExperts) {
  // Probabilities 1/8, 4/8, 1/8, 2/8.
  const std::vector<float> logits = {0, std::log(4.0f), 0, std::log(2.0f)};
  const Routed plain = route_one(logits, {.experts = 4, .top_k = 2});
  EXPECT_EQ(plain.ids, (std::vector<int32_t>{1, 3}));
  expect_values(plain.weights, {0.5, 0.25});
  const Routed normalized =
      route_one(logits, {.experts = 4, .top_k = 2, .normalize = true, .scale = 3});
  expect_values(normalized.weights, {2, 1});
  // Experts 0 and 2 tie for the third place.
  EXPECT_EQ(route_one(logits, {.experts = 4, .top_k = 3}).ids, (std::vector<int32_t>{1, 3, 0}));
}

// DeepSeek-V3: groups {0,1}, {2,3}, {4,5}, of which two are kept; the bias moves the choice alone.
TEST(ReferenceRoute, SigmoidWithGroupsAndSelectionBias) {
  const std::vector<float> logits = {3, -3, 1, 1, 0, 0.5f};
  const Router router{.scoring = Router::Scoring::sigmoid,
                      .experts = 6,
                      .top_k = 2,
                      .groups = 3,
                      .top_groups = 2,
                      .normalize = true,
                      .scale = 2.5f};
  // Group scores without bias: σ(3) + σ(-3) = 1, 2 σ(1) = 1.46, σ(0) + σ(0.5) = 1.12: expert 0,
  // the best of all, is in the group that goes.
  const Routed plain = route_one(logits, router);
  EXPECT_EQ(plain.ids, (std::vector<int32_t>{2, 3}));
  expect_values(plain.weights, {1.25, 1.25});

  // With +1 for expert 0 the first group is the best, and its weight is still σ(3).
  const Routed biased = route_one(logits, router, {1, 0, 0, 0, 0, 0});
  EXPECT_EQ(biased.ids, (std::vector<int32_t>{0, 2}));
  const double sum = sigmoid(3) + sigmoid(1);
  expect_values(biased.weights, {2.5 * sigmoid(3) / sum, 2.5 * sigmoid(1) / sum});
}

// DeepSeek-V2: groups {0,1}, {2,3}, {4,5} by their best alone.
TEST(ReferenceRoute, SoftmaxWithGroups) {
  // Probabilities 8, 0, 5, 5, 6, 0 of 24 and next to nothing: by sums of two the second group would stay.
  const std::vector<float> logits = {std::log(8.0f), -30, std::log(5.0f),
                                     std::log(5.0f), std::log(6.0f), -30};
  const Routed routed =
      route_one(logits, {.experts = 6, .top_k = 3, .groups = 3, .top_groups = 2, .scale = 3});
  EXPECT_EQ(routed.ids, (std::vector<int32_t>{0, 4, 1}));
  expect_values(routed.weights, {1, 0.75, 0}, 1e-6);
}

TEST(ReferenceExpertLinear, AppliesTheChosenExperts) {
  const std::vector<float> w = {1, 2, 10, 20, 100, 200};  // three experts of [1, 2]
  const ReferenceWeight weight = weight_over(w, Shape{3, 1, 2});
  Array x(2, 2, {1, 1, 1, -1});
  std::vector<int32_t> ids = {2, 0, 1, 2};
  const Ids chosen{ids.data(), 2, 2, 2};
  Array each(2, 2);
  expert_linear(x, weight, {}, chosen, {}, each);
  expect_values(each, {300, 3, -10, -100}, 0);
  Array weights(2, 2, {0.5, 2, 1, 0.25});
  Array mixed(2, 1);
  expert_linear(x, weight, {}, chosen, weights, mixed);
  expect_values(mixed, {156, -35}, 0);

  // Each expert's bias, before its weight.
  const std::vector<float> bias = {1000, 2000, 3000};
  expert_linear(x, weight, bias, chosen, {}, each);
  expect_values(each, {3300, 1003, 1990, 2900}, 0);
  expert_linear(x, weight, bias, chosen, weights, mixed);
  expect_values(mixed, {1650 + 2006, 1990 + 725}, 0);

  // An x for each choice.
  Array x_each(1, 4, {1, 0, 0, 1});
  Array out(1, 2);
  expert_linear(x_each, weight, {}, {ids.data(), 1, 2, 2}, {}, out);
  expect_values(out, {100, 2}, 0);
}

TEST(ReferenceHeadLinear, GivesEachHeadItsOwnMatrix) {
  const std::vector<float> w = {1, 2, 3, 4};  // heads 0 and 1, each [1, 2]
  Array x(1, 4, {1, 1, 10, 1});
  Array out(1, 2);
  head_linear(x, weight_over(w, Shape{2, 1, 2}), out);
  expect_values(out, {3, 34}, 0);
  // Transposed, each head takes one value to two.
  Array narrow(1, 2, {5, -1});
  Array wide(1, 4);
  head_linear(narrow, weight_over(w, Shape{2, 1, 2}, /*transposed=*/true), wide);
  expect_values(wide, {5, 10, -3, -4}, 0);
}

TEST(ReferenceLoraLinear, AddsTheAdapterOfEachRow) {
  const std::vector<float> down = {1, -1}, up = {2, 3};  // rank 1
  const ReferenceWeight a = weight_over(down, Shape{1, 2}), b = weight_over(up, Shape{2, 1});
  Array x(2, 2, {5, 3, 5, 3});
  Array out(2, 2, {100, 100, 100, 100});
  const ReferenceAdapter adapters[] = {{&a, &b, 0.5f}};
  const int32_t of_row[] = {-1, 0};
  lora_linear(x, adapters, of_row, out);
  expect_values(out, {100, 100, 102, 103}, 0);
}

}  // namespace

}  // namespace ridge::backend::reference
