#include "sampling/logits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace ridge::sampling {

namespace {

// Independent lanes let the compiler use vector registers without reordering float arithmetic.
constexpr size_t lanes = 16;

// Values at a time whose exponentials stay in the first-level cache.
constexpr size_t chunk = 1024;

float exp_of_one(float x) {
  constexpr float log2_e = 1.44269504f;
  constexpr float ln2_high = 0.693359375f;    // few bits, so that n · ln2_high is exact
  constexpr float ln2_low = -2.12194440e-4f;  // ln 2 - ln2_high
  constexpr float round_to_integer = 0x1.8p23f;
  const float clamped = x < -87.0f ? -87.0f : x;
  const float n = (clamped * log2_e + round_to_integer) - round_to_integer;
  const float r = (clamped - n * ln2_high) - n * ln2_low;  // |r| <= ln 2 / 2
  // Taylor's series; the first term left out is below 6e-9.
  float power = 1.0f / 5040;
  power = power * r + 1.0f / 720;
  power = power * r + 1.0f / 120;
  power = power * r + 1.0f / 24;
  power = power * r + 1.0f / 6;
  power = power * r + 0.5f;
  power = power * r + 1.0f;
  power = power * r + 1.0f;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : power * scale;
}

}  // namespace

float max_logit(std::span<const float> logits) {
  RIDGE_ASSERT(!logits.empty());
  std::array<float, lanes> best;
  best.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      best[lane] = best[lane] < logits[i + lane] ? logits[i + lane] : best[lane];
    }
  }
  float result = *std::max_element(best.begin(), best.end());
  for (; i < logits.size(); ++i) result = std::max(result, logits[i]);
  return result;
}

int32_t argmax(std::span<const float> logits) {
  const float best = max_logit(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

void check_finite(std::span<const float> logits) {
  // x · 0 is 0 for finite x and NaN for all else, and a NaN survives every sum.
  std::array<float, lanes> sums{};
  size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) sums[lane] += logits[i + lane] * 0.0f;
  }
  float sum = 0.0f;
  for (float lane : sums) sum += lane;
  for (; i < logits.size(); ++i) sum += logits[i] * 0.0f;
  if (sum == 0.0f) return;
  const auto bad =
      std::find_if(logits.begin(), logits.end(), [](float x) { return !std::isfinite(x); });
  throw Error(ErrorCode::internal,
              fmt::format("the model gave the logit {} for token {}; every logit must be finite",
                          *bad, bad - logits.begin()));
}

void exp_non_positive(std::span<float> x) {
  float* values = x.data();
  for (size_t i = 0, size = x.size(); i < size; ++i) values[i] = exp_of_one(values[i]);
}

double log_sum_exp(std::span<const float> logits) {
  const float best = max_logit(logits);
  std::array<float, chunk> powers;
  double sum = 0.0;
  for (size_t first = 0; first < logits.size(); first += chunk) {
    const auto part = logits.subspan(first, std::min(chunk, logits.size() - first));
    const std::span<float> out = std::span(powers).first(part.size());
    for (size_t i = 0; i < part.size(); ++i) out[i] = part[i] - best;
    exp_non_positive(out);
    std::array<double, lanes> sums{};
    size_t i = 0;
    for (; i + lanes <= out.size(); i += lanes) {
      for (size_t lane = 0; lane < lanes; ++lane) sums[lane] += out[i + lane];
    }
    for (; i < out.size(); ++i) sum += out[i];
    for (double lane : sums) sum += lane;
  }
  return static_cast<double>(best) + std::log(sum);
}

std::vector<ScoredToken> top_tokens(std::span<const float> logits, int count) {
  const size_t wanted = std::min(static_cast<size_t>(std::max(count, 0)), logits.size());
  std::vector<ScoredToken> top;
  top.reserve(wanted);
  if (wanted == 0) return top;
  size_t i = 0;
  for (; i < wanted; ++i) top.push_back({static_cast<int32_t>(i), logits[i]});
  // The front of the heap is the last of those kept. Ids ascend, so that an equal score never
  // displaces one.
  std::make_heap(top.begin(), top.end(), ranks_before);
  for (; i < logits.size(); ++i) {
    if (logits[i] <= top.front().score) continue;
    std::pop_heap(top.begin(), top.end(), ranks_before);
    top.back() = {static_cast<int32_t>(i), logits[i]};
    std::push_heap(top.begin(), top.end(), ranks_before);
  }
  std::sort_heap(top.begin(), top.end(), ranks_before);
  return top;
}

}  // namespace ridge::sampling
