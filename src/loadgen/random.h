#pragma once

#include <cstdint>

namespace ridge::loadgen {

// Draws that are the same on every machine, which the standard library's distributions are not.
// Each request has a stream of its own, so that it does not depend on which others came before.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream);

  // SplitMix64; Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
  uint64_t bits();
  // In (0, 1).
  double uniform();
  // Whole numbers of [least, most], all as likely.
  int between(int least, int most);
  // Of the given mean, above 0.
  double exponential(double mean);
  // Mean 0, deviation 1, by Box and Muller.
  double normal();

 private:
  uint64_t state_;
};

}  // namespace ridge::loadgen
