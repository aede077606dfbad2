#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace ridge::engine {

// How long events of one kind took, counted by fixed bounds (vLLM's for the time to a first token).
struct LatencyHistogram {
  static constexpr std::array<double, 22> bounds_s = {
      0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
      1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};

  // counts[i]: those of at most bounds_s[i] that are above the bound before; the last: above all.
  std::array<uint64_t, bounds_s.size() + 1> counts{};
  double sum_s = 0;

  void observe(double seconds) {
    const auto bound = std::ranges::lower_bound(bounds_s, seconds);
    ++counts[static_cast<size_t>(bound - bounds_s.begin())];
    sum_s += seconds;
  }
  void add(const LatencyHistogram& more) {
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += more.counts[i];
    sum_s += more.sum_s;
  }
};

}  // namespace ridge::engine
