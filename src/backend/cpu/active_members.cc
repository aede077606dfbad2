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
// So large a part of the members' time spent waiting for processors is worth a trial.
constexpr double much_waiting = 0.1;
// Of the time before: what is kept has to be so much faster, and what is so much slower need not be tried to the end.
constexpr double faster = 0.9, slower = 1.25;
// Steps of other sizes after which a window is given up.
constexpr int most_others = 8;

}  // namespace

ActiveMembers::ActiveMembers(int most, std::function<Duration()> waited, bool in_turns)
    : waited_(std::move(waited)), in_turns_(in_turns), pause_(least_pause) {
  for (int count = most; count > 1; count = (count + 1) / 2) counts_.push_back(count);
  counts_.push_back(1);
}

// Few tokens cost about what one does, so that each number is a size of its own; many cost as many
// times more, and sizes are powers of two.
int ActiveMembers::size_of(int tokens) {
  constexpr int few = 16;
  return tokens <= few ? tokens : few + std::bit_width(static_cast<unsigned>(tokens));
}

void ActiveMembers::open_window(int size) { window_ = {.size = size, .waited = waited_()}; }

void ActiveMembers::ran(int tokens, TimePoint start, TimePoint end) {
  if (counts_.size() == 1) return;
  if (in_turns_) {
    level_ = (level_ + 1) % counts_.size();
    return;
  }
  const int size = size_of(tokens);
  if (size != window_.size) {
    if (window_.size >= 0 && ++window_.others < most_others) return;
    if (is_trial_) end_trial(/*is_kept=*/false, end);
    open_window(size);
    return;
  }
  window_.others = 0;
  window_.tokens += tokens;
  window_.time += end - start;
  is_trial_ ? judge_trial(end) : judge(end);
}

void ActiveMembers::judge(TimePoint now) {
  if (window_.time < window_time) return;
  const Duration waited = waited_() - window_.waited;
  const bool waits = waited > much_waiting * count() * window_.time;
  // One alone waits for nobody in vain, and cannot tell whether more would.
  const bool may_shrink = waits && level_ + 1 < counts_.size();
  if (now < next_trial_ || (!may_shrink && level_ == 0)) return open_window(window_.size);
  begin_trial(may_shrink ? level_ + 1 : level_ - 1);
}

void ActiveMembers::judge_trial(TimePoint now) {
  const double ratio = window_.seconds_per_token() / before_trial_;
  if (ratio > slower) return end_trial(false, now);
  if (window_.time >= window_time) end_trial(ratio < faster, now);
}

void ActiveMembers::begin_trial(size_t level) {
  is_trial_ = true;
  trial_level_ = level;
  before_trial_ = window_.seconds_per_token();
  open_window(window_.size);
}

void ActiveMembers::end_trial(bool is_kept, TimePoint now) {
  is_trial_ = false;
  if (is_kept) level_ = trial_level_;
  pause_ = is_kept ? least_pause : std::min(2 * pause_, most_pause);
  next_trial_ = now + pause_;
  open_window(window_.size);
}

}  // namespace ridge::backend::cpu
