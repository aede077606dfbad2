#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ridge::sampling {

struct ScoredToken {
  int32_t id = 0;
  float score = 0;  // a logit or a logprob
};

// Whether `a` comes before `b`: the larger score first, the smaller id among equals.
inline bool ranks_before(const ScoredToken& a, const ScoredToken& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

// The largest of at least one value. No NaN.
float max_logit(std::span<const float> logits);

// The smallest id with the largest logit. No NaN.
int32_t argmax(std::span<const float> logits);

// Throws internal, naming the first token at fault, where a logit is NaN or infinite.
void check_finite(std::span<const float> logits);

// Replaces each x <= 0 by e^x, within 2e-7 of it relatively, the same bits on every machine; 0
// below -87.
void exp_non_positive(std::span<float> x);

// log Σ e^logit, so that logprob(i) = logits[i] - log_sum_exp(logits).
double log_sum_exp(std::span<const float> logits);

// The `count` first tokens in the order of `ranks_before`, at most all of them. No NaN.
// O(V + count log count) for small counts; never sorts what it does not return.
std::vector<ScoredToken> top_tokens(std::span<const float> logits, int count);

}  // namespace ridge::sampling
