#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/logits.h"
#include "sampling/sampling_params.h"

namespace ridge::sampling {

// What one pick may not choose, beside the parameters.
struct Constraints {
  // Bit id % 32 of word id / 32 is set where the token is allowed, as a grammar says; tokens past
  // its end are not allowed. Empty: all are allowed.
  std::span<const uint32_t> allowed;
  // Token ids that are not allowed, such as the ends of generation before min_tokens.
  std::span<const int32_t> banned;
};

struct Pick {
  int32_t token = 0;
  // The natural logarithm of the token's probability in the softmax of the raw logits; 0 unless
  // top_logprobs >= 0.
  float logprob = 0;
  std::vector<ScoredToken> top;  // logprobs of the likeliest tokens, as many as top_logprobs says
};

// Of the token, and of the `top` likeliest ones, in the softmax of the logits.
Pick logprobs_of(std::span<const float> logits, int32_t token, int top);

// Memory that picks of all sequences share, of a few times the vocabulary. One thread at a time.
struct Workspace {
  struct Candidate {
    ScoredToken token;
    uint64_t weight;  // probability × any constant; the best token has 2^40
  };
  std::vector<float> logits;
  std::vector<float> weights;
  std::vector<ScoredToken> top;
  std::vector<Candidate> candidates;  // of the last pick that had top-p or min-p to apply
  std::vector<Candidate> nucleus;
};

// Picks the tokens of one sequence. In this order: logit bias, repetition, presence and frequency
// penalties, constraints, temperature, top-k, top-p of what top-k left, min-p. Where tokens tie for
// the last place of a cut, the smaller id stays. A token less likely than 2^-41 of the best is
// never picked.
class Sampler {
 public:
  // `params` must be valid for the logits' size. `prompt` counts for the repetition penalty.
  // Choices of one request get different numbers, and so different texts from one seed.
  Sampler(SamplingParams params, std::span<const int32_t> prompt, uint32_t choice = 0);

  // The next token from the logits [vocab] after the tokens accepted so far; the same again until
  // `accept`. Throws internal for logits that are not finite, and where no token is allowed.
  Pick pick(std::span<const float> logits, const Constraints& constraints,
            Workspace& workspace) const;
  // The sequence goes on with this token.
  void accept(int32_t token);

  const SamplingParams& params() const { return params_; }
  uint64_t seed() const { return seed_; }

 private:
  bool changes_logits(const Constraints& constraints) const;
  void adjust(std::span<float> logits, const Constraints& constraints) const;
  int32_t draw(std::span<const float> logits, Workspace& workspace) const;

  SamplingParams params_;
  uint64_t seed_;
  uint32_t choice_;
  uint64_t tokens_accepted_ = 0;
  std::unordered_map<int32_t, int> generated_;  // token → times; empty unless a penalty needs it
  std::unordered_map<int32_t, int> seen_;       // generated or in the prompt; likewise
};

}  // namespace ridge::sampling
