#include "engine/block_spill.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "engine/fake_runner.h"

namespace ridge::engine::block_spill_test {
namespace {

constexpr RunnerLimits limits = {
    .sequences = 1, .outputs = 1, .context_tokens = 32, .block_tokens = 4, .blocks = 8};

class BlockSpill : public testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<kvcache::SpillStore> open(uint64_t blocks) {
    return open_spill({.budget_bytes = blocks * runner_.block_bytes(),
                       .folder = GetParam() ? folder_.path() : std::filesystem::path()},
                      runner_);
  }
  void fill(int block, char value) {
    std::vector<std::byte> content(runner_.block_bytes(), std::byte(value));
    runner_.import_block(kvcache::BlockId{block}, content);
  }
  char content(int block) {
    std::vector<std::byte> content(runner_.block_bytes());
    runner_.export_block(kvcache::BlockId{block}, content);
    for (std::byte byte : content) EXPECT_EQ(byte, content[0]);
    return static_cast<char>(content[0]);
  }

  TemporaryFolder folder_;
  FakeRunner runner_{limits, 10, [](const auto&) { return 0; }};
};

TEST_P(BlockSpill, BringsBackWhatItSavedInAnyOrder) {
  const auto store = open(3);
  for (int i = 0; i < 3; ++i) fill(i, static_cast<char>('a' + i));
  const int64_t a = store->save(kvcache::BlockId{0});
  const int64_t b = store->save(kvcache::BlockId{1});
  const int64_t c = store->save(kvcache::BlockId{2});
  ASSERT_GE(std::min({a, b, c}), 0);
  EXPECT_LT(store->save(kvcache::BlockId{3}), 0) << "its budget is three blocks";
  EXPECT_TRUE(store->load(b, kvcache::BlockId{5}));
  EXPECT_EQ(content(5), 'b');
  store->forget(a);
  fill(6, 'z');
  const int64_t z = store->save(kvcache::BlockId{6});
  ASSERT_GE(z, 0) << "there is room again";
  EXPECT_TRUE(store->load(c, kvcache::BlockId{0}));
  EXPECT_EQ(content(0), 'c');
  EXPECT_TRUE(store->load(z, kvcache::BlockId{0}));
  EXPECT_EQ(content(0), 'z');
}

TEST_P(BlockSpill, ABudgetBelowOneBlockIsNone) { EXPECT_EQ(open(0), nullptr); }

TEST_P(BlockSpill, LeavesNoFileBehind) {
  const auto store = open(2);
  store->save(kvcache::BlockId{0});
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

INSTANTIATE_TEST_SUITE_P(, BlockSpill, testing::Bool(),
                         [](const auto& info) { return info.param ? "OnDisk" : "InMemory"; });

TEST(BlockSpillFile, AFolderThatDoesNotExistIsAClearError) {
  FakeRunner runner(limits, 10, [](const auto&) { return 0; });
  try {
    open_spill({.budget_bytes = 1 << 20, .folder = "/no/such/folder"}, runner);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(error.message().find("/no/such/folder"), std::string_view::npos);
  }
}

}  // namespace
}  // namespace ridge::engine::block_spill_test
