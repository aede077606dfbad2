#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ridge::backend::cpu {

// How many members of a team run the next step.
//
// Where other processes take the processors too, all members wait at every barrier for the one whose turn is not
// yet, and fewer of them can be several times faster, above all one, which waits for nobody. So where members
// have waited for processors, half as many are tried for a while, and kept where steps of the same size get
// faster; from time to time twice as many are tried again. Where nobody waits, all run, always.
class ActiveMembers {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;
  using Duration = std::chrono::nanoseconds;

  // most: the team's size
  // waited: ThreadTeam::waited, or what tells the same; it is asked a few times a second
  // in_turns: another number for each step, for tests
  ActiveMembers(int most, std::function<Duration()> waited, bool in_turns = false);

  int count() const { return counts_[is_trial_ ? trial_level_ : level_]; }

  // After a step of so many tokens, at least one, on count() members, from `start` to `end`.
  void ran(int tokens, TimePoint start, TimePoint end);

 private:
  // Steps of one size, until there are enough of them to judge.
  struct Window {
    int size = -1;  // as size_of
    int others = 0;  // steps of other sizes since the last of this
    int64_t tokens = 0;
    Duration time{};
    Duration waited{};  // by all members, before it began

    double seconds_per_token() const {
      return std::chrono::duration<double>(time).count() / static_cast<double>(tokens);
    }
  };

  static int size_of(int tokens);
  void open_window(int size);
  void judge(TimePoint now);
  void judge_trial(TimePoint now);
  void begin_trial(size_t level);
  void end_trial(bool is_kept, TimePoint now);

  std::vector<int> counts_;  // most, half of it, …, 1
  const std::function<Duration()> waited_;
  const bool in_turns_;
  size_t level_ = 0;  // in counts_
  Window window_;

  bool is_trial_ = false;
  size_t trial_level_ = 0;
  double before_trial_ = 0;  // seconds a token
  TimePoint next_trial_{};
  Duration pause_;  // after a trial that failed, twice as long each time
};

}  // namespace ridge::backend::cpu
