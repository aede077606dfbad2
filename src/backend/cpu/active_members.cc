#include "backend/cpu/active_members.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace ridge::backend::cpu {

namespace {

using namespace std::chrono_literals;

// Several turns of everyone on a busy processor.
constexpr ActiveMembers::Duration window_time = 50ms;
constexpr ActiveMembers::Duration least_pause = 500ms, most_pause = 8s;
// All members together waited for processors for so large a part of the time: one of them makes all wait.
constexpr double much_waiting = 0.1;
// Of the time before: fewer members have to be so much faster to be kept, and what is so much slower need not be
// tried to the end.
constexpr double faster = 0.9, slower = 1.25;

}  // namespace

ActiveMembers::ActiveMembers(int most, std::function<Duration()> waited, bool in_turns)
    : waited_(std::move(waited)), in_turns_(in_turns) {
  for (int count = most; count > 1; count = (count + 1) / 2) counts_.push_back(count);
  counts_.push_back(1);
}

// Few tokens cost about what one does, so that each number is a size of its own; many cost as many
// times more, and sizes are powers of two.
ActiveMembers::Size& ActiveMembers::size_of(int tokens) {
  constexpr int few = 16;
  const int key = tokens <= few ? tokens : few + std::bit_width(static_cast<unsigned>(tokens));
  return sizes_.try_emplace(key, Size{.pause = least_pause}).first->second;
}

int ActiveMembers::count(int tokens) {
  if (in_turns_) return counts_[turn_];
  return counts_.size() == 1 ? 1 : counts_[size_of(tokens).current()];
}

void ActiveMembers::ran(int tokens, TimePoint start, TimePoint end) {
  if (in_turns_) turn_ = (turn_ + 1) % counts_.size();
  if (in_turns_ || counts_.size() == 1) return;
  Size& size = size_of(tokens);
  if (size.began == TimePoint{}) size.begin_window(start, waited_());
  size.tokens += tokens;
  size.time += end - start;
  size.is_trial ? judge_trial(size, end) : judge(size, end);
}

void ActiveMembers::Size::begin_window(TimePoint now, Duration waited_until_now) {
  tokens = 0;
  time = {};
  began = now;
  waited = waited_until_now;
}

// Other steps may have run in between: who waits in them is told of the same processors.
bool ActiveMembers::waits(const Size& size, TimePoint now, Duration waited) const {
  return waited - size.waited > much_waiting * (now - size.began);
}

void ActiveMembers::judge(Size& size, TimePoint now) const {
  if (size.time < window_time) return;
  const Duration waited = waited_();
  const size_t one = counts_.size() - 1;
  const bool may_shrink = waits(size, now, waited) && size.level < one, may_grow = size.level > 0;
  if (now >= size.next_trial && (may_shrink || may_grow)) {
    const bool grows = may_grow && (size.grows_next || !may_shrink);
    size.is_trial = true;
    size.trial_level = grows ? size.level - 1 : size.is_one_next ? one : size.level + 1;
    size.before_trial = size.seconds_per_token();
  }
  size.begin_window(now, waited);
}

void ActiveMembers::judge_trial(Size& size, TimePoint now) const {
  const double ratio = size.seconds_per_token() / size.before_trial;
  if (size.time < window_time && ratio <= slower) return;
  const Duration waited = waited_();
  const bool grows = size.trial_level < size.level;
  const bool is_kept = grows ? ratio < 1 || !waits(size, now, waited) : ratio < faster;
  size.is_trial = false;
  if (is_kept) {
    size.level = size.trial_level;
    size.pause = least_pause;
  } else {
    size.pause = std::min(2 * size.pause, most_pause);
    if (!grows) size.is_one_next = !size.is_one_next;
    size.grows_next = !grows;
  }
  size.next_trial = now + size.pause;
  size.begin_window(now, waited);
}

}  // namespace ridge::backend::cpu
