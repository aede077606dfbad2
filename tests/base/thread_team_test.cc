#include "base/thread_team.h"

#include <gtest/gtest.h>
#include <sched.h>

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
