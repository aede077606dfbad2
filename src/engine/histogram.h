#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace ridge::engine {

// Upper bounds, which are vLLM's, so that its dashboards show them.
inline constexpr std::array<double, 22> latency_bounds_s = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
    1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
inline constexpr std::array<double, 13> step_tokens_bounds = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

// How many values of one kind there were, by fixed upper bounds in ascending order.
template <const auto& upper_bounds>
struct Histogram {
  static constexpr const auto& bounds = upper_bounds;

  // counts[i]: those of at most bounds[i] that are above the bound before; the last: above all.
  std::array<uint64_t, upper_bounds.size() + 1> counts{};
  double sum = 0;

  void observe(double value) {
    const auto bound = std::ranges::lower_bound(bounds, value);
    ++counts[static_cast<size_t>(bound - bounds.begin())];
    sum += value;
  }
  void add(const Histogram& more) {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += more.counts[i];
    sum += more.sum;
  }
};

using LatencyHistogram = Histogram<latency_bounds_s>;  // seconds
using StepTokensHistogram = Histogram<step_tokens_bounds>;

}  // namespace ridge::engine
