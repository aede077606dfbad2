#include "backend/ascend/device/arena.h"

#include <gtest/gtest.h>

#include "backend/recorder.h"

namespace ridge::backend::ascend {

namespace {

// A chain of sums of values of several widths, each of which lives from where it is made to its last use.
Recording chain(const std::vector<int>& widths) {
  Recording recording;
  recording.limits = {.tokens = 7, .outputs = 3};
  for (const int width : widths) {
    recording.storages.push_back({Rows::tokens, width, DType::f32});
  }
  for (size_t i = 0; i + 1 < widths.size(); ++i) {
    const auto at = static_cast<int>(i);
    recording.ops.push_back(Scale{{at, 0, widths[i]}, 1.0f, {at + 1, 0, widths[i + 1]}});
  }
  return recording;
}

uint64_t bytes_of(const Recording& recording, size_t storage) {
  return static_cast<uint64_t>(recording.storages[storage].columns) * 4 * 7;
}

TEST(Arena, ValuesThatLiveTogetherDoNotOverlap) {
  Recording recording = chain({100, 3, 5000, 64, 64, 100, 9000, 1});
  // The first is needed to the end, as a residual is, and the third is an output.
  recording.ops.push_back(Add{{0, 0, 100}, {7, 0, 1}, {7, 0, 1}});
  recording.outputs.push_back({2, 0, 5000});
  const Arena arena = lay_out_arena(recording);
  const auto apart = [&](size_t a, size_t b) {
    return arena.offsets[a] + bytes_of(recording, a) <= arena.offsets[b] ||
           arena.offsets[b] + bytes_of(recording, b) <= arena.offsets[a];
  };
  for (size_t i = 1; i < 8; ++i) {
    EXPECT_TRUE(apart(0, i)) << i;
    EXPECT_TRUE(apart(i - 1, i)) << i;
    if (i > 2) {
      EXPECT_TRUE(apart(2, i)) << i;
    }
    EXPECT_EQ(arena.offsets[i] % 512, 0u);
    EXPECT_LE(arena.offsets[i] + bytes_of(recording, i), arena.bytes);
  }
}

TEST(Arena, PlacesAreUsedAgain) {
  const Arena arena = lay_out_arena(chain(std::vector<int>(100, 128)));
  EXPECT_EQ(arena.bytes, 2u * 128 * 4 * 7);
}

}  // namespace

}  // namespace ridge::backend::ascend
