#include "kvcache/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace ridge::kvcache::block_pool_test {

TEST(BlockPool, GivesEachBlockOnceAndThenNone) {
  BlockPool pool(5);
  std::set<BlockId> seen;
  for (int i = 0; i < 5; ++i) {
    const auto block = pool.allocate();
    ASSERT_TRUE(block);
    EXPECT_GE(block->value, 0);
    EXPECT_LT(block->value, 5);
    EXPECT_TRUE(seen.insert(*block).second) << "block " << block->value << " was given twice";
  }
  EXPECT_EQ(pool.blocks_free(), 0);
  EXPECT_FALSE(pool.allocate());
  EXPECT_EQ(pool.blocks_total(), 5);
}

TEST(BlockPool, FreesABlockWithItsLastHolder) {
  BlockPool pool(1);
  const BlockId block = *pool.allocate();
  pool.share(block);
  pool.share(block);
  EXPECT_EQ(pool.references(block), 3);
  pool.release(block);
  pool.release(block);
  EXPECT_FALSE(pool.allocate());
  pool.release(block);
  EXPECT_EQ(pool.references(block), 0);
  EXPECT_EQ(pool.blocks_free(), 1);
  EXPECT_EQ(pool.allocate(), block);
}

TEST(BlockPoolDeathTest, RefusesToReleaseAFreeBlock) {
  BlockPool pool(2);
  const BlockId block = *pool.allocate();
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "references");
  EXPECT_DEATH(pool.share(block), "references");
  EXPECT_DEATH(pool.release(BlockId{2}), "block");
}

TEST(BlockPool, CountsStayRightUnderRandomUse) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    const int blocks = 1 + static_cast<int>(random() % 40);
    BlockPool pool(blocks);
    std::vector<int> expected(static_cast<size_t>(blocks), 0);
    std::vector<BlockId> held;  // one entry for each holder
    for (int step = 0; step < 500; ++step) {
      const int action = static_cast<int>(random() % 3);
      if (action == 0) {
        const int in_use = static_cast<int>(
            std::count_if(expected.begin(), expected.end(), [](int n) { return n > 0; }));
        const auto block = pool.allocate();
        ASSERT_EQ(block.has_value(), in_use < blocks);
        if (block) {
          ASSERT_EQ(expected[static_cast<size_t>(block->value)], 0);
          expected[static_cast<size_t>(block->value)] = 1;
          held.push_back(*block);
        }
      } else if (!held.empty()) {
        const size_t index = random() % held.size();
        const BlockId block = held[index];
        if (action == 1) {
          pool.share(block);
          ++expected[static_cast<size_t>(block.value)];
          held.push_back(block);
        } else {
          pool.release(block);
          --expected[static_cast<size_t>(block.value)];
          held[index] = held.back();
          held.pop_back();
        }
      }
      int free = 0;
      for (int b = 0; b < blocks; ++b) {
        ASSERT_EQ(pool.references(BlockId{b}), expected[static_cast<size_t>(b)]);
        free += expected[static_cast<size_t>(b)] == 0;
      }
      ASSERT_EQ(pool.blocks_free(), free);
    }
    for (BlockId block : held) pool.release(block);
    EXPECT_EQ(pool.blocks_free(), blocks);
  }
}

}  // namespace ridge::kvcache::block_pool_test
