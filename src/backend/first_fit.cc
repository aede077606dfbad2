#include "backend/first_fit.h"

#include <algorithm>

namespace ridge::backend {

MemoryPlaces place_by_first_fit(std::span<const MemoryPiece> pieces) {
  struct Placed {
    uint64_t begin, end;
    int last;
  };
  std::vector<size_t> order;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].first >= 0) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) { return pieces[i].first; });
  MemoryPlaces places;
  places.offsets.resize(pieces.size());
  std::vector<Placed> placed;  // still needed, by place
  for (const size_t i : order) {
    const auto& [bytes, first, last] = pieces[i];
    std::erase_if(placed, [&](const Placed& other) { return other.last < first; });
    uint64_t begin = 0;
    auto before = placed.begin();
    for (; before != placed.end() && before->begin < begin + bytes; ++before) begin = before->end;
    places.offsets[i] = begin;
    placed.insert(before, {begin, begin + bytes, last});
    places.bytes = std::max(places.bytes, begin + bytes);
  }
  return places;
}

}  // namespace ridge::backend
