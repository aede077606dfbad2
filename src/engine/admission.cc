#include "engine/admission.h"

namespace ridge::engine {

int total(const WaitingCounts& waiting) {
  int sum = 0;
  for (const auto& [group, count] : waiting) sum += count;
  return sum;
}

bool may_wait(const WaitingCounts& waiting, const std::string& group, int max_queued) {
  const int everyone = total(waiting);
  if (everyone < max_queued) return true;
  const auto found = waiting.find(group);
  const int own = found == waiting.end() ? 0 : found->second;
  const int groups = static_cast<int>(waiting.size()) + (own == 0 ? 1 : 0);
  return own < max_queued / groups && everyone < 2 * max_queued;
}

}  // namespace ridge::engine
