#include "api/response_store.h"

#include <gtest/gtest.h>

namespace ridge::api::response_store_test {
namespace {

StoredResponse stored(const std::string& id, std::size_t bytes = 0) {
  return {id, std::string(bytes, 'x'), {}, "[]"};
}

TEST(ResponseStore, KeepsEachForItsOwnerOnly) {
  ResponseStore store({10, 1 << 20}, {10, 1 << 20});
  store.put("a", stored("1"));
  EXPECT_TRUE(store.find("a", "1"));
  EXPECT_FALSE(store.find("b", "1"));
  EXPECT_FALSE(store.find("", "1"));
  EXPECT_FALSE(store.erase("b", "1"));
  EXPECT_TRUE(store.erase("a", "1"));
  EXPECT_FALSE(store.erase("a", "1"));
  EXPECT_EQ(store.size(), 0u);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(ResponseStore, ForgetsWhatWasNotUsedForLongest) {
  ResponseStore store({2, 1 << 20}, {2, 1 << 20});
  store.put("a", stored("1"));
  store.put("a", stored("2"));
  store.find("a", "1");
  store.put("a", stored("3"));
  EXPECT_TRUE(store.find("a", "1"));
  EXPECT_FALSE(store.find("a", "2"));
  EXPECT_TRUE(store.find("a", "3"));
}

TEST(ResponseStore, KeepsWithinItsBytesAndSparesThoseWhoKeepLittle) {
  ResponseStore store({1000, 10'000}, {1000, 10'000});
  store.put("small", stored("1", 100));
  for (int i = 0; i < 50; ++i) {
    store.put("large", stored(std::to_string(i), 3000));
    EXPECT_LE(store.bytes(), 10'000u);
  }
  EXPECT_TRUE(store.find("small", "1"));
  EXPECT_TRUE(store.find("large", "49"));
  EXPECT_FALSE(store.find("large", "0"));
  store.put("large", stored("huge", 20'000));
  EXPECT_FALSE(store.find("large", "huge"));
  EXPECT_TRUE(store.find("large", "49")) << "what cannot be kept pushes nothing out";
}

TEST(ResponseStore, SparesThoseWhoKeepFewer) {
  ResponseStore store({4, 1 << 20}, {4, 1 << 20});
  store.put("one large", stored("1", 5000));
  store.put("few", stored("1"));
  for (int i = 0; i < 50; ++i) store.put("many small", stored(std::to_string(i)));
  EXPECT_TRUE(store.find("one large", "1")) << "responses are short, not bytes";
  EXPECT_TRUE(store.find("few", "1"));
  EXPECT_TRUE(store.find("many small", "49"));
  EXPECT_EQ(store.size(), 4u);
}

TEST(ResponseStore, TakesFromWhoseAreUnusedForLongestWhereAllHaveAsMany) {
  ResponseStore store({3, 1 << 20}, {3, 1 << 20});
  for (const char* owner : {"a", "b", "c"}) store.put(owner, stored("1"));
  store.find("a", "1");
  store.put("d", stored("1"));
  EXPECT_TRUE(store.find("a", "1"));
  EXPECT_FALSE(store.find("b", "1"));
  EXPECT_TRUE(store.find("d", "1")) << "what was just kept is the last to go";
}

TEST(ResponseStore, BoundsEachOwner) {
  ResponseStore store({100, 1 << 20}, {2, 10'000});
  for (int i = 0; i < 5; ++i) store.put("a", stored(std::to_string(i)));
  EXPECT_EQ(store.size(), 2u);
  EXPECT_TRUE(store.find("a", "4"));
  for (int i = 0; i < 5; ++i) store.put("b", stored(std::to_string(i), 6000));
  EXPECT_EQ(store.size(), 3u);
  store.put("b", stored("huge", 10'000));
  EXPECT_FALSE(store.find("b", "huge"));
  EXPECT_TRUE(store.find("b", "4"));
}

}  // namespace
}  // namespace ridge::api::response_store_test
