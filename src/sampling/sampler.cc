#include "sampling/sampler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "sampling/random.h"

namespace ridge::sampling {

namespace {

using Candidate = Workspace::Candidate;

constexpr float never = -std::numeric_limits<float>::infinity();
constexpr float largest = std::numeric_limits<float>::max();

// The weight of the best token. Integer weights add up to the same sum in every order, and 2^23 of
// them stay below 2^63.
constexpr float weight_one = 0x1p40f;

uint64_t to_weight(float power) { return static_cast<uint64_t>(power * weight_one); }

// Fills `weights` with e^((score - best) / temperature) and returns the sum of the integer weights.
template <typename ScoreAt>
uint64_t weigh(size_t count, float best, float temperature, std::vector<float>& weights,
               ScoreAt score_at) {
  weights.resize(count);
  float* to = weights.data();
  for (size_t i = 0; i < count; ++i) to[i] = (score_at(i) - best) / temperature;
  exp_non_positive(weights);
  uint64_t total = 0;
  for (size_t i = 0; i < count; ++i) total += to_weight(to[i]);
  return total;
}

// The index of the weight on which a draw below the weights' sum falls.
template <typename WeightAt>
size_t walk(size_t count, uint64_t drawn, WeightAt weight_at) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t weight = weight_at(i);
    if (drawn < weight) return i;
    drawn -= weight;
  }
  RIDGE_ASSERT(false && "a draw below the sum of the weights falls on one of them");
  return 0;
}

uint64_t total_weight(std::span<const Candidate> candidates) {
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

// The last token of the shortest best-first run whose weights reach `needed`: a quickselect by
// weight, linear on average. Reorders `candidates`.
ScoredToken last_of_nucleus(std::span<Candidate> candidates, double needed) {
  const auto before = [](const Candidate& a, const Candidate& b) {
    return ranks_before(a.token, b.token);
  };
  uint64_t kept = 0;  // weight of what is known to stand before `candidates`
  while (candidates.size() > 1) {
    const auto middle = candidates.begin() + static_cast<ptrdiff_t>(candidates.size() / 2);
    std::nth_element(candidates.begin(), middle, candidates.end(), before);
    const size_t half = static_cast<size_t>(middle - candidates.begin());
    const uint64_t first_half = total_weight(candidates.first(half));
    if (static_cast<double>(kept + first_half) >= needed) {
      candidates = candidates.first(half);
    } else {
      kept += first_half;
      candidates = candidates.subspan(half);
    }
  }
  return candidates.front().token;
}

// Drops all that stand after the nucleus; what is left keeps its order.
void keep_nucleus(double needed, Workspace& workspace) {
  workspace.nucleus = workspace.candidates;
  const ScoredToken last = last_of_nucleus(workspace.nucleus, needed);
  std::erase_if(workspace.candidates,
                [&](const Candidate& c) { return ranks_before(last, c.token); });
}

}  // namespace

Sampler::Sampler(SamplingParams params, std::span<const int32_t> prompt, uint32_t choice)
    : params_(std::move(params)),
      seed_(params_.seed ? *params_.seed : fresh_seed()),
      choice_(choice) {
  if (params_.repetition_penalty != 1.0f) {
    for (int32_t token : prompt) ++seen_[token];
  }
}

void Sampler::accept(int32_t token) {
  ++tokens_accepted_;
  if (params_.repetition_penalty != 1.0f) ++seen_[token];
  if (params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f) ++generated_[token];
}

bool Sampler::changes_logits(const Constraints& constraints) const {
  return !params_.logit_bias.empty() || !seen_.empty() || !generated_.empty() ||
         !constraints.allowed.empty() || !constraints.banned.empty();
}

void Sampler::adjust(std::span<float> logits, const Constraints& constraints) const {
  const auto known = [&](int32_t token) {
    return token >= 0 && static_cast<size_t>(token) < logits.size();
  };
  for (const auto& [token, bias] : params_.logit_bias) {
    if (known(token)) logits[static_cast<size_t>(token)] += bias;
  }
  for (const auto& [token, times] : seen_) {
    if (!known(token)) continue;
    float& logit = logits[static_cast<size_t>(token)];
    const float penalty = params_.repetition_penalty;
    // A penalty near 0 would make the largest logits infinite, and equal.
    logit = std::clamp(logit > 0 ? logit / penalty : logit * penalty, -largest, largest);
  }
  for (const auto& [token, times] : generated_) {
    if (!known(token)) continue;
    logits[static_cast<size_t>(token)] -=
        params_.presence_penalty + params_.frequency_penalty * static_cast<float>(times);
  }
  if (!constraints.allowed.empty()) {
    for (size_t id = 0; id < logits.size(); ++id) {
      const size_t word = id / 32;
      const bool allowed =
          word < constraints.allowed.size() && ((constraints.allowed[word] >> (id % 32)) & 1u) != 0;
      if (!allowed) logits[id] = never;
    }
  }
  for (int32_t token : constraints.banned) {
    if (known(token)) logits[static_cast<size_t>(token)] = never;
  }
}

int32_t Sampler::draw(std::span<const float> logits, Workspace& workspace) const {
  const float best = max_logit(logits);
  const uint64_t bits = random_bits(seed_, choice_, tokens_accepted_);
  const std::vector<float>& weights = workspace.weights;
  const auto weight_at = [&](size_t i) { return to_weight(weights[i]); };
  const bool cuts_k = params_.top_k > 0 && static_cast<size_t>(params_.top_k) < logits.size();
  if (cuts_k) {
    // Back in the order of ids, so that every set of cuts walks its tokens in the same order.
    workspace.top = top_tokens(logits, params_.top_k);
    std::ranges::sort(workspace.top, {}, &ScoredToken::id);
  }
  const auto token_at = [&](size_t i) {
    return cuts_k ? workspace.top[i] : ScoredToken{static_cast<int32_t>(i), logits[i]};
  };
  const size_t count = cuts_k ? workspace.top.size() : logits.size();
  const float temperature = params_.temperature;
  const uint64_t total = cuts_k ? weigh(count, best, temperature, workspace.weights,
                                        [&](size_t i) { return workspace.top[i].score; })
                                : weigh(count, best, temperature, workspace.weights,
                                        [data = logits.data()](size_t i) { return data[i]; });
  if (params_.top_p == 1.0f && params_.min_p == 0.0f) {
    return token_at(walk(count, scale_to(bits, total), weight_at)).id;
  }
  const double needed = static_cast<double>(params_.top_p) * static_cast<double>(total);
  // Tokens below `negligible` together weigh less than the part that top-p leaves out, so that none
  // of them is in the nucleus. The margin covers the rounding of the sum.
  const double negligible =
      0.999 * (static_cast<double>(total) - needed) / static_cast<double>(count);
  // Both cuts keep a first part of the ranking, so that min-p may come before the nucleus is found.
  const double least = std::max({negligible, static_cast<double>(params_.min_p * weight_one), 1.0});
  std::vector<Candidate>& candidates = workspace.candidates;
  candidates.clear();
  for (size_t i = 0; i < count; ++i) {
    const uint64_t weight = weight_at(i);
    if (static_cast<double>(weight) >= least) candidates.push_back({token_at(i), weight});
  }
  if (params_.top_p < 1.0f) keep_nucleus(needed, workspace);
  const uint64_t drawn = scale_to(bits, total_weight(candidates));
  return candidates[walk(candidates.size(), drawn, [&](size_t i) { return candidates[i].weight; })]
      .token.id;
}

Pick Sampler::pick(std::span<const float> logits, const Constraints& constraints,
                   Workspace& workspace) const {
  check_finite(logits);
  std::span<const float> adjusted = logits;
  if (changes_logits(constraints)) {
    workspace.logits.assign(logits.begin(), logits.end());
    adjust(workspace.logits, constraints);
    adjusted = workspace.logits;
    if (max_logit(adjusted) == never) {
      throw Error(ErrorCode::internal,
                  "no token may come next: the mask and the bans exclude them all");
    }
  }
  const int32_t token = params_.temperature == 0.0f ? argmax(adjusted) : draw(adjusted, workspace);
  if (params_.top_logprobs < 0) return {.token = token};
  return logprobs_of(logits, token, params_.top_logprobs);
}

Pick logprobs_of(std::span<const float> logits, int32_t token, int top) {
  const double normalizer = log_sum_exp(logits);
  const auto logprob = [&](float logit) { return static_cast<float>(logit - normalizer); };
  Pick pick{token, logprob(logits[static_cast<size_t>(token)]), top_tokens(logits, top)};
  for (ScoredToken& each : pick.top) each.score = logprob(each.score);
  return pick;
}

}  // namespace ridge::sampling
