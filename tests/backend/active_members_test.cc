#include "backend/cpu/active_members.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace ridge::backend::cpu {
namespace {

using namespace std::chrono_literals;
using Duration = ActiveMembers::Duration;

// A machine whose steps take what the test says, for each number of members.
class Machine {
 public:
  explicit Machine(int members) : active(members, [this] { return waited; }) {}

  // Steps of so many tokens, in all `total` of time; returns how many ran on each number of members.
  std::map<int, int> run(Duration total, int tokens = 1) {
    std::map<int, int> steps;
    for (const auto end = now + total; now < end;) {
      const int members = active.count(tokens);
      ++steps[members];
      const auto start = now;
      now += step_time.at(members) * tokens;
      if (is_shared) waited += (now - start) / 2;
      active.ran(tokens, start, now);
    }
    return steps;
  }

  std::map<int, Duration> step_time;
  bool is_shared = false;
  Duration waited{};
  ActiveMembers::TimePoint now{};
  ActiveMembers active;
};

TEST(ActiveMembers, AreAllWhereNobodyWaits) {
  Machine machine(8);
  machine.step_time = {{8, 5ms}};  // a smaller number would throw
  EXPECT_EQ(machine.run(60s), (std::map<int, int>{{8, 12000}}));
}

TEST(ActiveMembers, AreFewerWhereThatIsFaster) {
  Machine machine(4);
  machine.step_time = {{4, 80ms}, {2, 40ms}, {1, 10ms}};
  machine.is_shared = true;
  machine.run(2s);
  EXPECT_EQ(machine.active.count(1), 1);
  // Two are tried again, for one step, less and less often.
  const std::map<int, int> steps = machine.run(60s);
  EXPECT_GT(steps.at(1), 5500);
  EXPECT_LE(steps.at(2), 12);
  EXPECT_FALSE(steps.contains(4));
}

TEST(ActiveMembers, AreOneWhereHalfAsManyGainNothing) {
  Machine machine(4);
  machine.step_time = {{4, 40ms}, {2, 38ms}, {1, 10ms}};
  machine.is_shared = true;
  machine.run(5s);
  EXPECT_EQ(machine.active.count(1), 1);
}

TEST(ActiveMembers, StayAllWhereFewerAreSlower) {
  Machine machine(2);
  machine.step_time = {{2, 10ms}, {1, 15ms}};
  machine.is_shared = true;
  const std::map<int, int> steps = machine.run(60s);
  EXPECT_GT(steps.at(2), 5800);
  EXPECT_GE(steps.at(1), 5) << "the load may have become another";
  EXPECT_LE(steps.at(1), 20);
}

TEST(ActiveMembers, AreAllAgainWhenTheOthersHaveGone) {
  Machine machine(4);
  machine.step_time = {{4, 80ms}, {2, 40ms}, {1, 10ms}};
  machine.is_shared = true;
  machine.run(30s);
  ASSERT_EQ(machine.active.count(1), 1);
  machine.is_shared = false;
  machine.step_time = {{4, 9500us}, {2, 10ms}, {1, 10ms}};  // hardly faster, as where memory is the bound
  machine.run(20s);
  EXPECT_EQ(machine.active.count(1), 4);
}

TEST(ActiveMembers, AreMoreAgainWhereOthersTakeLess) {
  Machine machine(4);
  machine.step_time = {{4, 80ms}, {2, 20ms}, {1, 30ms}};
  machine.is_shared = true;
  machine.run(5s);
  ASSERT_EQ(machine.active.count(1), 2);
  machine.step_time.at(4) = 12ms;
  machine.run(40s);
  EXPECT_EQ(machine.active.count(1), 4) << "though somebody still waits";
}

TEST(ActiveMembers, HaveANumberForEachSizeOfStep) {
  Machine machine(2);
  machine.is_shared = true;
  for (int round = 0; round < 20; ++round) {
    machine.step_time = {{2, 40ms}, {1, 10ms}};
    machine.run(200ms);
    machine.step_time = {{2, 1ms}, {1, 2ms}};
    machine.run(300ms, /*tokens=*/100);
  }
  EXPECT_EQ(machine.active.count(1), 1);
  EXPECT_EQ(machine.active.count(100), 2);
}

TEST(ActiveMembers, TakeTurnsForTests) {
  ActiveMembers active(4, [] { return Duration{}; }, /*in_turns=*/true);
  std::vector<int> counts;
  for (int step = 0; step < 6; ++step) {
    counts.push_back(active.count(1));
    active.ran(1, {}, {});
  }
  EXPECT_EQ(counts, (std::vector<int>{4, 2, 1, 4, 2, 1}));
}

}  // namespace
}  // namespace ridge::backend::cpu
