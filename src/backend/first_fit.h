#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ridge::backend {

// A piece of memory and when it is needed: from one point in time to another, both included.
struct MemoryPiece {
  uint64_t bytes = 0;
  int first = -1;  // never: it gets no place
  int last = -1;

  // In the order of time.
  void use_at(int time) {
    if (first < 0) first = time;
    if (time > last) last = time;
  }
};

// Where pieces lie in one memory, those that are not needed at the same time perhaps in the same
// place: each, in the order of their first use, in the first gap that is wide enough. Offsets are sums
// of sizes, and so aligned as they are.
struct MemoryPlaces {
  std::vector<uint64_t> offsets;
  uint64_t bytes = 0;
};
MemoryPlaces place_by_first_fit(std::span<const MemoryPiece> pieces);

}  // namespace ridge::backend
