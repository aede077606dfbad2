#include "engine/suffix_drafter.h"

#include <algorithm>

namespace ridge::engine {

namespace {

uint64_t hash_before(std::span<const int32_t> sequence, int end) {
  uint64_t hash = 14695981039346656037u;
  for (int i = end - SuffixDrafter::least_match; i < end; ++i) {
    hash = (hash ^ static_cast<uint32_t>(sequence[static_cast<size_t>(i)])) * 1099511628211u;
  }
  return hash ^ (hash >> 29);
}

int common_before(std::span<const int32_t> sequence, int a, int b, int most) {
  int length = 0;
  while (length < most && length < std::min(a, b) &&
         sequence[static_cast<size_t>(a - 1 - length)] ==
             sequence[static_cast<size_t>(b - 1 - length)]) {
    ++length;
  }
  return length;
}

}  // namespace

void SuffixDrafter::index(std::span<const int32_t> sequence) {
  const int size = static_cast<int>(sequence.size());
  previous_.resize(sequence.size(), -1);
  // The end itself stays out, or it would only find itself.
  for (indexed_ = std::max(indexed_, least_match); indexed_ < size; ++indexed_) {
    const auto [place, is_new] = latest_.try_emplace(hash_before(sequence, indexed_), indexed_);
    if (!is_new) {
      previous_[static_cast<size_t>(indexed_)] = place->second;
      place->second = indexed_;
    }
  }
}

SuffixDrafter::Draft SuffixDrafter::propose(std::span<const int32_t> sequence, int most) {
  index(sequence);
  const int end = static_cast<int>(sequence.size());
  if (end < least_match || most < 1) return {};
  const auto found = latest_.find(hash_before(sequence, end));
  if (found == latest_.end()) return {};
  int best_end = -1;
  int best_length = least_match - 1;
  int place = found->second;
  for (int i = 0; i < most_places && place >= 0; ++i) {
    const int length = common_before(sequence, place, end, most_match);
    if (length > best_length) {
      best_length = length;
      best_end = place;
    }
    place = previous_[static_cast<size_t>(place)];
  }
  if (best_end < 0) return {};
  const int count = std::min(most, end - best_end);
  return {sequence.subspan(static_cast<size_t>(best_end), static_cast<size_t>(count)), best_length};
}

}  // namespace ridge::engine
