#include "base/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <vector>

namespace ridge {

TEST(ThreadTeam, RunsEveryMemberOnceForEachTask) {
  for (int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    std::vector<int> calls(threads, 0);
    for (int round = 0; round < 200; ++round) team.run([&](int member) { ++calls[member]; });
    EXPECT_EQ(calls, std::vector<int>(threads, 200)) << threads << " threads";
  }
}

TEST(ThreadTeam, BarrierShowsEachMemberTheOthersWrites) {
  constexpr int threads = 4;
  ThreadTeam team(threads);
  std::vector<int> written(threads, 0);
  std::vector<int> seen(threads, 0);
  for (int round = 1; round <= 200; ++round) {
    team.run([&](int member) {
      written[member] = round;
      team.barrier();
      int total = 0;
      for (int value : written) total += value;
      seen[member] = total;
    });
    for (int total : seen) ASSERT_EQ(total, threads * round);
  }
}

TEST(ThreadTeam, RunsOnSomeMembersWhileTheOthersSleep) {
  constexpr int threads = 4;
  ThreadTeam team(threads);
  std::vector<int> calls(threads, 0), expected(threads, 0);
  for (int round = 0; round < 500; ++round) {
    const int members = 1 + round * 7 % threads;
    std::vector<int> written(threads, 0);
    team.run(
        [&](int member) {
          ++calls[member];
          written[member] = 1;
          team.barrier();
          int total = 0;
          for (int value : written) total += value;
          if (total != members) calls[member] = -1000;
        },
        members);
    for (int member = 0; member < members; ++member) ++expected[member];
    ASSERT_EQ(calls, expected) << members << " members in round " << round;
  }
}

TEST(ThreadTeam, TellsHowLongItsMembersWaitedForAProcessor) {
  if (access("/proc/thread-self/schedstat", R_OK) != 0) GTEST_SKIP() << "this kernel does not tell";
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int processor = 0;
  while (!CPU_ISSET(processor, &allowed)) ++processor;
  ThreadTeam team(3);
  ASSERT_TRUE(team.pin(std::vector<int>(3, processor)));
  team.run([](int) {});
  const auto before = team.waited();
  // Two members on one processor, each of which works for 30 ms.
  std::atomic<int> ready{0};
  team.run([&](int member) {
    if (member == 0) return;
    timespec time{};
    do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    while (time.tv_sec == 0 && time.tv_nsec < 30'000'000);
    ++ready;
  });
  EXPECT_EQ(ready, 2);
  if (team.waited().count() == 0) GTEST_SKIP() << "this kernel counts nothing";
  EXPECT_GT(team.waited() - before, std::chrono::milliseconds(15));
}

TEST(ThreadTeam, PinsItsMembersAndLeavesTheCaller) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int processor = 0;
  while (!CPU_ISSET(processor, &before)) ++processor;
  ThreadTeam team(3);
  ASSERT_TRUE(team.pin(std::vector<int>(3, processor)));
  std::vector<cpu_set_t> masks(3);
  team.run([&](int member) { sched_getaffinity(0, sizeof(cpu_set_t), &masks[member]); });
  EXPECT_TRUE(CPU_EQUAL(&masks[0], &before));
  for (int member : {1, 2}) {
    EXPECT_EQ(CPU_COUNT(&masks[member]), 1);
    EXPECT_TRUE(CPU_ISSET(processor, &masks[member]));
  }
  EXPECT_FALSE(team.pin(std::vector<int>(3, CPU_SETSIZE - 1))) << "there is no such processor";
}

}  // namespace ridge
