#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "backend/cpu/equal_tiles.h"
#include "backend/cpu/schedule.h"

// How tokens are cut into tiles, and work into chunks.
namespace ridge::backend::cpu::sharing_test {

TEST(EqualTiles, HoldEachTokenOnceInAsFewTilesAsCanBe) {
  for (const int planes : {1, 2}) {
    for (const int most : {2, 4, 6, 8, 32}) {
      for (int tokens = 1; tokens <= 200; ++tokens) {
        const EqualTiles tiles(tokens, planes, most);
        EXPECT_EQ(tiles.count(), (tokens * planes + most - 1) / most);
        int next = 0;
        for (int tile = 0; tile < tiles.count(); ++tile) {
          EXPECT_EQ(tiles.first(tile), next);
          EXPECT_LE(tiles.tokens(tile) * planes, most);
          EXPECT_LE(tiles.tokens(0) - tiles.tokens(tile), 1);
          for (int i = 0; i < tiles.tokens(tile); ++i) EXPECT_EQ(tiles.tile_of(next + i), tile);
          next += tiles.tokens(tile);
        }
        EXPECT_EQ(next, tokens);
        EXPECT_EQ(tiles.first(tiles.count()), tokens);
      }
    }
  }
}

TEST(Tapering, GivesEachItemToOneMember) {
  constexpr int members = 4;
  for (const Tapering& work :
       {Tapering{.items = 1000, .divisor = 12}, Tapering{.items = 1000, .divisor = 12, .least = 7},
        Tapering{.items = 7 * 48, .divisor = 6, .most = 4, .row = 48},
        Tapering{.items = 3, .divisor = 24, .most = 4, .row = 1},
        Tapering{.items = 0, .divisor = 6}}) {
    std::atomic<int64_t> next = 0;
    std::vector<std::atomic<int>> taken(work.items);
    std::atomic<int> wrong = 0;
    const auto member = [&] {
      while (const auto chunk = take_chunk(next, work)) {
        const int64_t count = chunk->last - chunk->first;
        const bool is_end = chunk->last == work.items || chunk->last % work.row == 0;
        const bool is_too_small = count < work.least && !is_end;
        const bool crosses = chunk->first / work.row != (chunk->last - 1) / work.row;
        if (count < 1 || count > work.most || is_too_small || crosses) ++wrong;
        for (int64_t i = chunk->first; i < chunk->last; ++i) ++taken[i];
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < members; ++i) threads.emplace_back(member);
    }
    EXPECT_EQ(wrong, 0);
    for (const auto& times : taken) EXPECT_EQ(times, 1);
  }
}

// All end at about the same time: the last chunks are small.
TEST(Tapering, ShrinksToOneItem) {
  std::atomic<int64_t> next = 0;
  int64_t before = 1000, last = 0;
  while (const auto chunk = take_chunk(next, {.items = 1000, .divisor = 6})) {
    last = chunk->last - chunk->first;
    EXPECT_LE(last, before);
    before = last;
  }
  EXPECT_EQ(last, 1);
}

}  // namespace ridge::backend::cpu::sharing_test
