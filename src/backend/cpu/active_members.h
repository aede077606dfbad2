#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace ridge::backend::cpu {

// How many members of a team run the next step.
//
// Where other processes take the processors too, all members wait at every barrier for the one whose turn is not
// yet, and fewer of them can be several times faster, above all one, which waits for nobody. So where members
// have waited for processors, fewer are tried for a while, and kept where steps of the same size get faster; from
// time to time more are tried again. Where nobody waits, all run.
class ActiveMembers {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;
  using Duration = std::chrono::nanoseconds;

  // most: the team's size
  // waited: ThreadTeam::waited, or what tells the same; asked some 20 times a second
  // in_turns: another number for each step, for tests
  ActiveMembers(int most, std::function<Duration()> waited, bool in_turns = false);

  // For a step of so many tokens, at least one.
  int count(int tokens);

  // After such a step on count(tokens) members, from `start` to `end`.
  void ran(int tokens, TimePoint start, TimePoint end);

 private:
  // Steps of one size have a number of members of their own: a prompt's have much work between two barriers.
  struct Size {
    size_t level = 0;  // in counts_
    bool is_trial = false;
    size_t trial_level = 0;
    double before_trial = 0;  // seconds a token
    // Trials take turns: of more members and of fewer, of half as many and of one.
    bool grows_next = false, is_one_next = false;
    TimePoint next_trial{};
    Duration pause;  // after a trial that failed, twice as long each time

    // Since the last judgement.
    int64_t tokens = 0;
    Duration time{};  // of these steps
    TimePoint began{};
    Duration waited{};  // before it

    size_t current() const { return is_trial ? trial_level : level; }
    double seconds_per_token() const {
      return std::chrono::duration<double>(time).count() / static_cast<double>(tokens);
    }
    void begin_window(TimePoint now, Duration waited_until_now);
  };

  Size& size_of(int tokens);
  void judge(Size& size, TimePoint now) const;
  void judge_trial(Size& size, TimePoint now) const;
  bool waits(const Size& size, TimePoint now, Duration waited) const;

  std::vector<int> counts_;  // most, half of it, …, 1
  const std::function<Duration()> waited_;
  const bool in_turns_;
  size_t turn_ = 0;
  std::map<int, Size> sizes_;
};

}  // namespace ridge::backend::cpu
