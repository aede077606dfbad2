#include "kvcache/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace ridge::kvcache::prefix_cache_test {
namespace {

using Tokens = std::vector<int32_t>;

Tokens counting(int count, int first = 0) {
  Tokens tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A store of so many blocks that remembers which content was saved.
class FakeStore final : public SpillStore {
 public:
  explicit FakeStore(int capacity) : capacity_(capacity) {}

  int64_t save(BlockId block) override {
    if (static_cast<int>(saved_.size()) >= capacity_) return -1;
    saved_[next_] = content[block.value];
    return next_++;
  }
  bool load(int64_t saved, BlockId block) override {
    const auto found = saved_.find(saved);
    EXPECT_NE(found, saved_.end()) << "what was forgotten is asked for";
    content[block.value] = found->second;
    saved_.erase(found);
    return !fails;
  }
  void forget(int64_t saved) override { EXPECT_EQ(saved_.erase(saved), 1u); }
  int size() const { return static_cast<int>(saved_.size()); }

  std::map<int32_t, std::string> content;  // of device blocks, as a test wrote it
  bool fails = false;

 private:
  int capacity_;
  int64_t next_ = 0;
  std::map<int64_t, std::string> saved_;
};

// One sequence and what it holds.
struct Holder {
  Holder(BlockPool& pool, Tokens tokens, std::string root = "")
      : tokens(std::move(tokens)), root(std::move(root)), table(pool, 4) {}

  int extend(PrefixCache& cache) {
    return computed = cache.extend(root, tokens, computed, table, place);
  }
  void compute(PrefixCache& cache) {
    ASSERT_TRUE(table.reserve(static_cast<int>(tokens.size())));
    computed = static_cast<int>(tokens.size());
    cache.insert(root, tokens, computed, table, place);
  }
  void release() {
    table.clear();
    place = {};
    computed = 0;
  }

  Tokens tokens;
  std::string root;
  BlockTable table;
  PrefixCache::Place place;
  int computed = 0;
};

// What a block holds depends on the token behind it as well.
TEST(PrefixCache, BlocksAreSharedWhereTheTokensAheadAgreeToo) {
  BlockPool pool(16);
  {
    PrefixCache cache(pool, 4, /*spill=*/nullptr, /*tokens_ahead=*/1);
    Holder first(pool, counting(8));
    first.compute(cache);
    EXPECT_EQ(cache.blocks(), 1) << "what comes behind the second is not known";
    Holder same(pool, counting(9)), other(pool, {0, 1, 2, 3, 9, 5});
    EXPECT_EQ(same.extend(cache), 4);
    EXPECT_EQ(other.extend(cache), 0);
    same.compute(cache);
    other.compute(cache);
    EXPECT_EQ(cache.blocks(), 3);
    Holder third(pool, {0, 1, 2, 3, 9, 6});
    EXPECT_EQ(third.extend(cache), 4);
    EXPECT_EQ(third.table.blocks()[0], other.table.blocks()[0]);
    for (Holder* holder : {&first, &same, &other, &third}) holder->release();
    EXPECT_EQ(cache.reclaim(16), 3);
  }
  EXPECT_EQ(pool.blocks_free(), 16);
}

TEST(PrefixCache, ALaterSequenceHoldsTheBlocksOfItsKnownPrefix) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(10));
  EXPECT_EQ(a.extend(cache), 0);
  a.compute(cache);
  EXPECT_EQ(cache.blocks(), 2) << "only full blocks";
  Tokens tokens = counting(8);
  tokens.insert(tokens.end(), {90, 91, 92});
  Holder b(pool, tokens);
  EXPECT_EQ(b.extend(cache), 8);
  EXPECT_EQ(b.table.blocks()[0], a.table.blocks()[0]);
  EXPECT_EQ(b.table.blocks()[1], a.table.blocks()[1]);
}

TEST(PrefixCache, TheLastTokenIsAlwaysLeftToCompute) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(12));
  a.compute(cache);
  Holder same(pool, counting(12));
  EXPECT_EQ(same.extend(cache), 8);
  Holder longer(pool, counting(13));
  EXPECT_EQ(longer.extend(cache), 12);
}

TEST(PrefixCache, RootsShareNothing) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(8), "one");
  a.compute(cache);
  Holder other(pool, counting(9), "two");
  EXPECT_EQ(other.extend(cache), 0);
  other.compute(cache);
  EXPECT_NE(other.table.blocks()[0], a.table.blocks()[0]);
  Holder same(pool, counting(9), "one");
  EXPECT_EQ(same.extend(cache), 8);
}

TEST(PrefixCache, BlocksOutliveTheirSequenceUntilTheyAreReclaimed) {
  BlockPool pool(4);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(12));
  a.compute(cache);
  EXPECT_EQ(pool.blocks_available(), 1);
  EXPECT_EQ(cache.reclaim(3), 0) << "somebody uses them";
  a.release();
  EXPECT_EQ(pool.blocks_free(), 1);
  EXPECT_EQ(pool.blocks_available(), 4);
  EXPECT_EQ(cache.reclaim(2), 2);
  EXPECT_EQ(pool.blocks_free(), 3);
  Holder b(pool, counting(12));
  EXPECT_EQ(b.extend(cache), 4) << "the end of the prefix went first";
  EXPECT_EQ(cache.evictions_total(), 2u);
}

TEST(PrefixCache, TheLeastRecentlyUsedPrefixGoesFirst) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  for (int first : {100, 200, 300}) {
    Holder h(pool, counting(8, first));
    h.compute(cache);
  }
  {
    Holder again(pool, counting(9, 100));
    EXPECT_EQ(again.extend(cache), 8);
  }
  EXPECT_EQ(cache.reclaim(4), 4);
  EXPECT_EQ(Holder(pool, counting(9, 200)).extend(cache), 0);
  EXPECT_EQ(Holder(pool, counting(9, 300)).extend(cache), 0);
  EXPECT_EQ(Holder(pool, counting(9, 100)).extend(cache), 8);
}

TEST(PrefixCache, TwoThatComputedTheSameKeepOneCopy) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(9));
  Holder b(pool, counting(9));
  a.compute(cache);
  b.compute(cache);
  EXPECT_EQ(pool.blocks_free(), 16 - 4) << "two shared, and the two tails";
  EXPECT_EQ(b.table.blocks()[1], a.table.blocks()[1]);
}

TEST(PrefixCache, ASequenceInItsPromptCatchesUpWithAnotherThatIsAhead) {
  BlockPool pool(16);
  PrefixCache cache(pool, 4);
  Holder a(pool, counting(17));
  Holder b(pool, counting(17));
  ASSERT_TRUE(b.table.reserve(17));
  b.computed = 4;
  cache.insert("", b.tokens, 4, b.table, b.place);
  a.compute(cache);
  const int free_before = pool.blocks_free();
  EXPECT_EQ(b.extend(cache), 16);
  EXPECT_EQ(pool.blocks_free(), free_before + 3) << "its own blocks are free again";
  EXPECT_EQ(b.table.blocks()[3], a.table.blocks()[3]);
}

TEST(PrefixCache, SpilledBlocksComeBackWithTheirContent) {
  BlockPool pool(4);
  FakeStore store(10);
  PrefixCache cache(pool, 4, &store);
  {
    Holder a(pool, counting(16));
    a.compute(cache);
    for (int i = 0; i < 4; ++i) {
      store.content[a.table.blocks()[static_cast<size_t>(i)].value] = "a" + std::to_string(i);
    }
  }
  EXPECT_EQ(cache.reclaim(4), 4);
  EXPECT_EQ(cache.blocks_spilled(), 4);
  EXPECT_EQ(cache.evictions_total(), 0u);
  Holder b(pool, counting(16));
  EXPECT_EQ(b.extend(cache), 12);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(store.content[b.table.blocks()[static_cast<size_t>(i)].value],
              "a" + std::to_string(i));
  }
  EXPECT_EQ(cache.blocks_spilled(), 1);
}

TEST(PrefixCache, AFullStoreForgetsWhatItHasHadLongest) {
  BlockPool pool(8);
  FakeStore store(2);
  PrefixCache cache(pool, 4, &store);
  for (int first : {100, 200, 300}) {
    Holder h(pool, counting(4, first));
    h.compute(cache);
  }
  EXPECT_EQ(cache.reclaim(3), 3);
  EXPECT_EQ(store.size(), 2);
  EXPECT_EQ(Holder(pool, counting(5, 100)).extend(cache), 0);
  EXPECT_EQ(Holder(pool, counting(5, 300)).extend(cache), 4);
}

TEST(PrefixCache, WhatCannotBeReadBackIsComputedAgain) {
  BlockPool pool(4);
  FakeStore store(10);
  PrefixCache cache(pool, 4, &store);
  { Holder(pool, counting(12)).compute(cache); }
  cache.reclaim(3);
  store.fails = true;
  Holder b(pool, counting(13));
  EXPECT_EQ(b.extend(cache), 0);
  EXPECT_EQ(cache.blocks_spilled(), 0) << "what hung on it is of no use any more";
  EXPECT_EQ(store.size(), 0);
  EXPECT_EQ(pool.blocks_free(), 4);
}

// Random sequences over few tokens, so that they share much; each block's content is the path that
// leads to it, and a holder must find its own.
TEST(PrefixCache, EveryBlockHoldsWhatItsSequenceExpectsUnderRandomUse) {
  uint64_t hits = 0;
  uint64_t restored = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
    };
    BlockPool pool(pick(8, 30));
    FakeStore store(pick(0, 20));
    PrefixCache cache(pool, 4, pick(0, 1) == 1 ? &store : nullptr);
    std::vector<std::unique_ptr<Holder>> holders;
    const auto content_of = [](const Holder& h, int block) {
      std::string content = h.root + ":";
      for (int i = 0; i < (block + 1) * 4; ++i) {
        content += std::to_string(h.tokens[static_cast<size_t>(i)]) + ",";
      }
      return content;
    };
    for (int step = 0; step < 200; ++step) {
      if (!holders.empty() && pick(0, 2) == 0) {
        const auto at = pick(0, static_cast<int>(holders.size()) - 1);
        holders.erase(holders.begin() + at);
        continue;
      }
      Tokens tokens(static_cast<size_t>(pick(1, 24)));
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = i % 4 == 0 ? pick(0, 1) : 0;
      auto h = std::make_unique<Holder>(pool, tokens, pick(0, 3) == 0 ? "x" : "y");
      const int spilled = cache.blocks_spilled();
      const int cached = h->extend(cache);
      restored += cache.blocks_spilled() < spilled;
      hits += cached > 0;
      const int missing = (static_cast<int>(tokens.size()) + 3) / 4 - cached / 4;
      if (missing > pool.blocks_available()) continue;
      if (missing > pool.blocks_free()) cache.reclaim(missing - pool.blocks_free());
      ASSERT_TRUE(h->table.reserve(static_cast<int>(tokens.size())));
      const int full = static_cast<int>(tokens.size()) / 4;
      for (int i = cached / 4; i < full; ++i) {
        store.content[h->table.blocks()[static_cast<size_t>(i)].value] = content_of(*h, i);
      }
      cache.insert(h->root, h->tokens, static_cast<int>(tokens.size()), h->table, h->place);
      holders.push_back(std::move(h));
      for (const auto& each : holders) {
        for (int i = 0; i < static_cast<int>(each->tokens.size()) / 4; ++i) {
          ASSERT_EQ(store.content[each->table.blocks()[static_cast<size_t>(i)].value],
                    content_of(*each, i));
        }
      }
      ASSERT_EQ(cache.blocks_spilled(), store.size());
    }
    holders.clear();
    ASSERT_EQ(pool.blocks_available(), pool.blocks_total()) << "a block leaked";
    cache.reclaim(pool.blocks_total());
    ASSERT_EQ(pool.blocks_free(), pool.blocks_total());
  }
  EXPECT_GT(hits, 5000u);
  EXPECT_GT(restored, 500u);
}

}  // namespace
}  // namespace ridge::kvcache::prefix_cache_test
