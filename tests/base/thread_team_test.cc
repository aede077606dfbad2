#include "base/thread_team.h"

#include <gtest/gtest.h>

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

}  // namespace ridge
