#pragma once

#include <string>
#include <vector>

#include "planner/bound.h"

namespace ridge::planner {

// How two devices compare in one regime, by their bounds.
struct RatioRow {
  std::string regime;   // "decode, 8 sequences a device"
  std::string weights;  // "fp8 / w8a8", first device first
  double first = 0;     // tokens/s of one device
  double second = 0;
  Limit first_limit = Limit::compute;
  Limit second_limit = Limit::compute;

  double ratio() const { return first / second; }
};

// The same number of each, in layouts where each rank holds sequences of its own, over batches and
// formats that either can run: what "the first is so much of the second" would have to mean.
// Models of experts lie on `devices` of each, others on one. Throws invalid_argument where nothing
// links so many of a device.
std::vector<RatioRow> ratios(const ModelShape& shape, const Device& first, const Device& second,
                             int devices, double prompt_tokens);

}  // namespace ridge::planner
