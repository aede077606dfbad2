#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace ridge::model {

namespace {

double llama3_divisor(const RopeConfig& config, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double turns = config.original_context_tokens / wavelength;
  const double kept = std::clamp((turns - config.low_frequency_factor) /
                                     (config.high_frequency_factor - config.low_frequency_factor),
                                 0.0, 1.0);
  return 1.0 / ((1.0 - kept) / config.factor + kept);
}

// The (fractional) pair that turns `turns` times over the original context.
double yarn_pair_of(const RopeConfig& config, double turns) {
  return config.rotary_dim *
         std::log(config.original_context_tokens / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(config.base)));
}

double yarn_divisor(const RopeConfig& config, int pair) {
  double low = yarn_pair_of(config, config.beta_fast);
  double high = yarn_pair_of(config, config.beta_slow);
  if (config.rounds_pairs) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, config.rotary_dim - 1.0);
  // Wider than nothing, or a single pair would divide by zero.
  const double scaled = std::clamp((pair - low) / std::max(high - low, 0.001), 0.0, 1.0);
  return 1.0 / (scaled / config.factor + (1.0 - scaled));
}

double divisor_of(const RopeConfig& config, int pair, double frequency) {
  switch (config.scaling) {
    case RopeConfig::Scaling::none:
      return 1.0;
    case RopeConfig::Scaling::linear:
      return config.factor;
    case RopeConfig::Scaling::llama3:
      return llama3_divisor(config, frequency);
    case RopeConfig::Scaling::yarn:
      return yarn_divisor(config, pair);
  }
  return 1.0;
}

}  // namespace

backend::RopeTable make_rope_table(const RopeConfig& config) {
  RIDGE_ASSERT(config.rotary_dim >= 2 && config.rotary_dim % 2 == 0);
  backend::RopeTable table;
  table.pairs = config.pairs;
  for (int pair = 0; pair < config.rotary_dim / 2; ++pair) {
    const double frequency =
        std::pow(static_cast<double>(config.base), -2.0 * pair / config.rotary_dim);
    double divisor = divisor_of(config, pair, frequency);
    if (!config.frequency_divisors.empty()) divisor *= config.frequency_divisors[pair];
    table.inverse_frequencies.push_back(static_cast<float>(frequency / divisor));
  }
  if (config.scaling == RopeConfig::Scaling::yarn) {
    const double stretched = std::max(1.0, static_cast<double>(config.factor));
    const double growth = config.log_multiplier > 0 ? 0.0 : 0.1 * std::log(stretched);
    table.magnitude = static_cast<float>(config.attention_factor * (growth + 1.0));
  }
  return table;
}

float score_magnitude(const RopeConfig& config) {
  if (config.log_multiplier == 0 || config.factor <= 1) return 1.0f;
  const double grown = config.log_multiplier * std::log(static_cast<double>(config.factor)) + 1.0;
  return static_cast<float>(grown * grown);
}

}  // namespace ridge::model
