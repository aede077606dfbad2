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

// Fills `candidates` with the tokens of weight > 0 among `tokens`, keeping their order.
void add_weighted(std::span<const ScoredToken> tokens, float best, float temperature,
                  Workspace& workspace) {
  std::vector<float>& weights = workspace.weights;
  weights.resize(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) weights[i] = (tokens[i].score - best) / temperature;
  exp_non_positive(weights, weights);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto weight = static_cast<uint64_t>(weights[i] * weight_one);
    if (weight > 0) workspace.candidates.push_back({tokens[i], weight});
  }
}

void add_weighted(std::span<const float> logits, float best, float temperature,
                  Workspace& workspace) {
  std::vector<float>& weights = workspace.weights;
  weights.resize(logits.size());
  const float* from = logits.data();
  float* to = weights.data();
  for (size_t i = 0; i < logits.size(); ++i) to[i] = (from[i] - best) / temperature;
  exp_non_positive(weights, weights);
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto weight = static_cast<uint64_t>(weights[i] * weight_one);
    if (weight > 0) workspace.candidates.push_back({{static_cast<int32_t>(i), logits[i]}, weight});
  }
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

void keep_nucleus(float top_p, Workspace& workspace) {
  std::vector<Candidate>& candidates = workspace.candidates;
  const double total = static_cast<double>(total_weight(candidates));
  const double needed = static_cast<double>(top_p) * total;
  // Tokens below this weight together weigh less than the part that top-p leaves out, so that none
  // of them is in the nucleus. The margin covers the rounding of `total`.
  const double negligible = 0.999 * (total - needed) / static_cast<double>(candidates.size());
  workspace.nucleus.clear();
  for (const Candidate& candidate : candidates) {
    if (static_cast<double>(candidate.weight) >= negligible) workspace.nucleus.push_back(candidate);
  }
  const ScoredToken last = last_of_nucleus(workspace.nucleus, needed);
  std::erase_if(candidates, [&](const Candidate& c) { return ranks_before(last, c.token); });
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
  std::vector<Candidate>& candidates = workspace.candidates;
  candidates.clear();
  const float best = max_logit(logits);
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < logits.size()) {
    std::vector<ScoredToken> top = top_tokens(logits, params_.top_k);
    std::ranges::sort(top, {}, &ScoredToken::id);
    add_weighted(top, best, params_.temperature, workspace);
  } else {
    add_weighted(logits, best, params_.temperature, workspace);
  }
  if (params_.top_p < 1.0f) keep_nucleus(params_.top_p, workspace);
  if (params_.min_p > 0.0f) {
    const double least = static_cast<double>(params_.min_p) * static_cast<double>(weight_one);
    std::erase_if(candidates,
                  [&](const Candidate& c) { return static_cast<double>(c.weight) < least; });
  }
  // Candidates stand in the order of their ids, whatever the cuts did.
  uint64_t rest = scale_to(random_bits(seed_, choice_, tokens_accepted_), total_weight(candidates));
  for (const Candidate& candidate : candidates) {
    if (rest < candidate.weight) return candidate.token.id;
    rest -= candidate.weight;
  }
  RIDGE_ASSERT(false && "a draw below the sum of the weights falls on a candidate");
  return 0;
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
  Pick pick;
  pick.token = params_.temperature == 0.0f ? argmax(adjusted) : draw(adjusted, workspace);
  if (params_.top_logprobs >= 0) {
    const double normalizer = log_sum_exp(logits);
    const auto logprob = [&](float logit) { return static_cast<float>(logit - normalizer); };
    pick.logprob = logprob(logits[static_cast<size_t>(pick.token)]);
    pick.top = top_tokens(logits, params_.top_logprobs);
    for (ScoredToken& token : pick.top) token.score = logprob(token.score);
  }
  return pick;
}

}  // namespace ridge::sampling
