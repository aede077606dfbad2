#pragma once

#include <string>
#include <string_view>

#include "loadgen/random.h"

namespace ridge::loadgen {

// How many tokens a prompt or an answer has: "230" always; "100-400" each as likely;
// "lognormal:200:0.8" with that median and that deviation of the logarithm, cut at
// "lognormal:200:0.8:2000", or at 16 medians where no limit is given.
class LengthDistribution {
 public:
  static constexpr int largest_tokens = 1 << 20;

  // Throws invalid_argument, naming `option`, for what is none of these; lengths are 1 to 2^20.
  static LengthDistribution parse(std::string_view text, std::string_view option);

  // At least 1.
  int draw(Random& random) const;
  // The fixed length, the middle of the range, or the median: what a typical request has.
  int typical() const;

 private:
  enum class Kind { uniform, lognormal };

  Kind kind_ = Kind::uniform;
  int least_ = 1;
  int most_ = 1;
  int median_ = 0;
  double deviation_ = 0;
};

}  // namespace ridge::loadgen
