#include "backend/cpu/tile_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ridge::backend::cpu::tile_format_test {

namespace {

constexpr DType tile_dtypes[] = {DType::q4_0, DType::q4_1, DType::q5_0,   DType::q5_1,
                                 DType::q8_0, DType::q2_k, DType::q3_k,   DType::q4_k,
                                 DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs,
                                 DType::mxfp4};

std::vector<std::byte> random_bytes(size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator());
  return bytes;
}

}  // namespace

// Any bit pattern, not only what a quantiser writes: nothing of the file may be lost.
TEST(TileFormat, RowsComeBackBitForBit) {
  for (DType dtype : tile_dtypes) {
    const int block = traits(dtype).block_elements;
    for (int blocks : {1, 2, 3, 5}) {
      const int64_t columns = static_cast<int64_t>(block) * blocks;
      const size_t bytes = row_bytes(dtype, columns);
      for (int count : {1, 7, 16}) {
        const auto file = random_bytes(bytes * count, static_cast<uint32_t>(blocks * 100 + count));
        const std::byte* rows[strip_rows];
        for (int r = 0; r < count; ++r) rows[r] = file.data() + r * bytes;
        const TileFormat format = tile_format(dtype);
        std::vector<std::byte> strip(
            static_cast<size_t>(units_of(format, columns) * format.unit_bytes()));
        pack_strip(dtype, rows, count, columns, strip.data());
        std::vector<std::byte> back(bytes);
        for (int r = 0; r < count; ++r) {
          unpack_row(dtype, strip.data(), r, columns, back.data());
          EXPECT_TRUE(std::equal(back.begin(), back.end(), rows[r]))
              << name(dtype) << ", " << blocks << " blocks, row " << r << " of " << count;
        }
      }
    }
  }
}

// Kernels load whole vectors from a unit, so that its parts must start on cache lines.
TEST(TileFormat, UnitsAreWholeCacheLines) {
  for (DType dtype : tile_dtypes) {
    const TileFormat format = tile_format(dtype);
    EXPECT_EQ(format.unit_bytes() % 64, 0) << name(dtype);
    EXPECT_EQ(format.codes_at() % 64, 0) << name(dtype);
  }
}

}  // namespace ridge::backend::cpu::tile_format_test
