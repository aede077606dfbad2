#pragma once

#include <cstddef>
#include <vector>

namespace ridge::loadgen {

// Of values in ms; all 0 where there are none.
struct Summary {
  size_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
  double max = 0;
};

// The value below which `percent` (0 to 100) of the sorted values lie, interpolated between the two
// nearest ranks (definition 7 of Hyndman and Fan, which numpy and R take). `sorted` is not empty.
double percentile(const std::vector<double>& sorted, double percent);

Summary summarize(std::vector<double> values);

}  // namespace ridge::loadgen
