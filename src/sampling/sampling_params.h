#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace ridge::sampling {

inline constexpr size_t max_logit_biases = 1024;

// How tokens of one sequence are picked. Ranges are checked by `validate`.
struct SamplingParams {
  float temperature = 1.0f;  // [0, 2]; 0 is greedy: the largest logit, ties to the smaller id
  int top_k = 0;             // 0: all, else at least 1
  float top_p = 1.0f;        // (0, 1]
  float min_p = 0.0f;        // [0, 1]; tokens below min_p · p(best) are dropped
  float repetition_penalty = 1.0f;  // (0, 2]; divides positive and multiplies negative logits
  float presence_penalty = 0.0f;    // [-2, 2]; counts generated tokens only, as OpenAI's API
  float frequency_penalty = 0.0f;   // [-2, 2]; likewise
  std::optional<uint64_t> seed;     // absent: from the system's entropy
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, [-100, 100]; added up
  int top_logprobs = -1;  // -1: none; 0: the picked token's own; up to 20 more
};

// Throws invalid_argument naming the parameter, its value and its range.
void validate(const SamplingParams& params, int vocab_size);

}  // namespace ridge::sampling
