#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ridge::backend::ascend::twin {

// What all cores get from one source, HBM or L2, at so many bytes a cycle together. Time is cut into
// pieces, each of which gives its share of bytes to who asks first, whichever core was counted first: a
// core that is ahead takes nothing from those that are behind.
class SharedRate {
 public:
  explicit SharedRate(double bytes_per_cycle) : rate_(bytes_per_cycle) {}

  // The cycle at which the bytes are there that are asked for at `begin`.
  double serve(double begin, uint64_t bytes) {
    double left = static_cast<double>(bytes);
    double end = begin + left / rate_;
    const double whole = piece_cycles * rate_;
    for (size_t at = open_from(static_cast<size_t>(begin / piece_cycles)); left > 0;
         at = open_from(at)) {
      const double part = std::min(left, whole - given_[at]);
      given_[at] += part;
      left -= part;
      end = std::max(end, static_cast<double>(at) * piece_cycles + given_[at] / rate_);
      if (given_[at] >= whole) next_[at] = static_cast<uint32_t>(at + 1);
    }
    return end;
  }

  void reset() {
    given_.clear();
    next_.clear();
  }

 private:
  static constexpr double piece_cycles = 512;

  // The first piece from that one on which has bytes left.
  size_t open_from(size_t piece) {
    size_t at = piece;
    for (;; at = next_[at]) {
      while (given_.size() <= at) {
        next_.push_back(static_cast<uint32_t>(given_.size()));
        given_.push_back(0);
      }
      if (next_[at] == at) break;
    }
    // What lies between is skipped at once the next time.
    while (piece != at) {
      const size_t after = next_[piece];
      next_[piece] = static_cast<uint32_t>(at);
      piece = after;
    }
    return at;
  }

  const double rate_;
  std::vector<double> given_;    // bytes of each piece
  std::vector<uint32_t> next_;  // itself, or a later piece where nothing is left
};

}  // namespace ridge::backend::ascend::twin
