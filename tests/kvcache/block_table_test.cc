#include "kvcache/block_table.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace ridge::kvcache::block_table_test {

TEST(BlockTable, ReservesWholeBlocksForTokens) {
  BlockPool pool(4);
  BlockTable table(pool, 16);
  EXPECT_TRUE(table.reserve(1));
  EXPECT_EQ(table.blocks().size(), 1u);
  EXPECT_TRUE(table.reserve(16));
  EXPECT_EQ(table.blocks().size(), 1u);
  EXPECT_TRUE(table.reserve(17));
  EXPECT_EQ(table.blocks().size(), 2u);
  EXPECT_EQ(table.capacity_tokens(), 32);
  EXPECT_TRUE(table.reserve(3)) << "never shrinks";
  EXPECT_EQ(table.blocks().size(), 2u);
}

TEST(BlockTable, ChangesNothingWhenThePoolHasTooFew) {
  BlockPool pool(3);
  BlockTable table(pool, 4);
  ASSERT_TRUE(table.reserve(4));
  EXPECT_FALSE(table.reserve(13));
  EXPECT_EQ(table.blocks().size(), 1u);
  EXPECT_EQ(pool.blocks_free(), 2);
  EXPECT_TRUE(table.reserve(12));
}

TEST(BlockTable, GivesEveryPositionASlotOfItsOwn) {
  BlockPool pool(8);
  BlockTable first(pool, 4);
  BlockTable second(pool, 4);
  std::set<int32_t> slots;
  for (int tokens = 1; tokens <= 13; ++tokens) {  // interleaved, so that blocks are not in order
    ASSERT_TRUE(first.reserve(tokens));
    ASSERT_TRUE(second.reserve(tokens));
  }
  for (int position = 0; position < 13; ++position) {
    EXPECT_TRUE(slots.insert(first.slot(position)).second);
    EXPECT_TRUE(slots.insert(second.slot(position)).second);
    EXPECT_EQ(first.slot(position) % 4, position % 4);
    EXPECT_EQ(first.slot(position) / 4, first.blocks()[static_cast<size_t>(position / 4)].value);
  }
}

TEST(BlockTable, ReleasesItsBlocksWhenItEnds) {
  BlockPool pool(4);
  {
    BlockTable table(pool, 16);
    ASSERT_TRUE(table.reserve(50));
    BlockTable moved(std::move(table));
    EXPECT_EQ(pool.blocks_free(), 0);
    moved.clear();
    EXPECT_EQ(pool.blocks_free(), 4);
    ASSERT_TRUE(moved.reserve(20));
  }
  EXPECT_EQ(pool.blocks_free(), 4);
}

TEST(BlockTable, SharedBlocksOutliveTheirFirstHolder) {
  BlockPool pool(6);
  BlockTable second(pool, 4);
  {
    BlockTable first(pool, 4);
    ASSERT_TRUE(first.reserve(10));
    second.share_prefix(first, 2);
    EXPECT_EQ(second.slot(7), first.slot(7));
    EXPECT_EQ(pool.references(first.blocks()[0]), 2);
    EXPECT_EQ(pool.references(first.blocks()[2]), 1);
    EXPECT_EQ(pool.blocks_free(), 3) << "sharing takes no block";
  }
  EXPECT_EQ(pool.blocks_free(), 4);
  ASSERT_TRUE(second.reserve(9));
  EXPECT_EQ(pool.blocks_free(), 3);
  second.clear();
  EXPECT_EQ(pool.blocks_free(), 6);
}

}  // namespace ridge::kvcache::block_table_test
