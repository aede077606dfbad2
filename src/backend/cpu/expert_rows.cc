#include "backend/cpu/expert_rows.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

int most_groups(int tokens, int choices, int experts) {
  return std::min(experts, tokens * choices);
}

}  // namespace

size_t ExpertRows::bytes(int tokens, int choices, int experts) {
  const size_t used = most_groups(tokens, choices, experts) * sizeof(ExpertGroup) +
                      (static_cast<size_t>(tokens) * choices + experts) * sizeof(int32_t);
  return (used + 63) / 64 * 64;
}

ExpertRows::ExpertRows(std::byte* memory, int tokens, int choices, int experts)
    : tokens_(tokens),
      choices_(choices),
      experts_(experts),
      groups_(reinterpret_cast<ExpertGroup*>(memory)),
      order_(reinterpret_cast<int32_t*>(groups_ + most_groups(tokens, choices, experts))),
      ends_(order_ + tokens * choices) {}

void ExpertRows::sort(const int32_t* ids, int64_t stride,
                      const std::function<bool(int token)>& takes) {
  const auto each = [&](auto fn) {
    for (int t = 0; t < tokens_; ++t) {
      if (takes && !takes(t)) continue;
      for (int j = 0; j < choices_; ++j) fn(ids == nullptr ? j : ids[t * stride + j], t, j);
    }
  };
  std::fill_n(ends_, experts_, 0);
  each([&](int expert, int, int) {
    RIDGE_ASSERT(expert >= 0 && expert < experts_);
    ++ends_[expert];
  });
  int first = 0;
  group_count_ = 0;
  for (int e = 0; e < experts_; ++e) {
    const int rows = ends_[e];
    if (rows > 0) groups_[group_count_++] = {e, first, rows, LinearPath::dot};
    ends_[e] = first;
    first += rows;
  }
  count_ = first;
  each([&](int expert, int t, int j) { order_[ends_[expert]++] = t * choices_ + j; });
}

const ExpertGroup& ExpertRows::group_of(int row) const {
  const auto after = std::upper_bound(groups_, groups_ + group_count_, row,
                                      [](int r, const ExpertGroup& g) { return r < g.first; });
  return *(after - 1);
}

}  // namespace ridge::backend::cpu
