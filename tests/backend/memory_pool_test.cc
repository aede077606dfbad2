#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

#include "backend/cpu/buffer.h"

namespace ridge::backend::cpu::memory_pool_test {

namespace {

TEST(MemoryPool, GivesSmallPiecesOfOneBlockOneAfterTheOther) {
  MemoryPool pool(HugePages::asked);
  const Memory first = pool.take(100);
  const Memory second = pool.take(1 << 20);
  const Memory third = pool.take(1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first.data()) % (2u << 20), 0u);
  EXPECT_EQ(second.data(), first.data() + 128);
  EXPECT_EQ(third.data(), second.data() + (1 << 20));
  EXPECT_EQ(first.size_bytes(), 100u);
}

TEST(MemoryPool, GivesLargePiecesBlocksOfTheirOwn) {
  MemoryPool pool(HugePages::asked);
  const Memory small = pool.take(64);
  const Memory large = pool.take(size_t{9} << 20);
  const Memory next = pool.take(64);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.data()) % (2u << 20), 0u);
  EXPECT_EQ(next.data(), small.data() + 64);
}

TEST(MemoryPool, BeginsAnotherBlockWhereOneIsFull) {
  MemoryPool pool(HugePages::refused);
  std::vector<Memory> pieces;
  for (int i = 0; i < 5; ++i) {
    pieces.push_back(pool.take(size_t{7} << 20));
    std::memset(pieces.back().data(), i + 1, pieces.back().size_bytes());
  }
  // Nothing was written over.
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(pieces[i].data()[0], std::byte(i + 1));
    EXPECT_EQ(pieces[i].data()[pieces[i].size_bytes() - 1], std::byte(i + 1));
  }
}

TEST(MemoryPool, PiecesOutliveThePoolAndOneAnother) {
  std::optional<MemoryPool> pool;
  pool.emplace(HugePages::asked);
  std::optional<Memory> gone = pool->take(4096);
  const Memory stays = pool->take(4096);
  std::memset(stays.data(), 7, 4096);
  gone.reset();
  pool.reset();
  EXPECT_EQ(stays.data()[4095], std::byte{7});
}

}  // namespace

}  // namespace ridge::backend::cpu::memory_pool_test
