#include "backend/cpu/tiles.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/tiles_emulated.h"

// The emulated tiles against the operations of the instructions, written out from Intel's manual
// for one element at a time.
namespace ridge::backend::cpu::tiles_test {

namespace {

using Bytes = std::vector<uint8_t>;

Bytes random_bytes(size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  Bytes bytes(count);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(generator());
  return bytes;
}

uint16_t bf16_of(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }
float float_of(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
// Denormals are zeros, on the way in and out.
float daz(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

// C 0: m × n, A 1: m × k, B 2: k × n, all counts of dwords but m.
void configure(int m, int n, int k) {
  TileConfig config;
  config.set(0, m, 4 * n);
  config.set(1, m, 4 * k);
  config.set(2, k, 4 * n);
  EmulatedTiles::configure(config);
}

struct Shape {
  int m, n, k;
};
constexpr Shape shapes[] = {{16, 16, 16}, {16, 16, 8}, {1, 16, 8},
                            {5, 3, 2},    {16, 1, 1},  {2, 7, 16}};

class EmulatedTile : public testing::Test {
 protected:
  void TearDown() override { EmulatedTiles::release(); }
};
using EmulatedTileDeathTest = EmulatedTile;

}  // namespace

TEST_F(EmulatedTile, LoadsAndStoresRowsOfItsShapeByStride) {
  TileConfig config;
  config.set(3, 5, 12);
  EmulatedTiles::configure(config);
  const Bytes from = random_bytes(5 * 40, 1);
  EmulatedTiles::load<3>(from.data(), 40);
  Bytes to(5 * 20, 0xee);
  EmulatedTiles::store<3>(to.data(), 20);
  for (int row = 0; row < 5; ++row) {
    EXPECT_EQ(0, std::memcmp(&to[row * 20], &from[row * 40], 12)) << row;
    for (int i = 12; i < 20; ++i) EXPECT_EQ(to[row * 20 + i], 0xee);
  }
}

TEST_F(EmulatedTile, ConfiguringClearsEveryTile) {
  configure(2, 2, 2);
  const Bytes from = random_bytes(16, 2);
  EmulatedTiles::load<0>(from.data(), 8);
  configure(2, 2, 2);
  Bytes to(16, 0xee);
  EmulatedTiles::store<0>(to.data(), 8);
  EXPECT_EQ(to, Bytes(16, 0));
}

// TDPBSUD: for m, k, n: C[m][n] += the 4 products of A's signed and B's unsigned bytes.
TEST_F(EmulatedTile, MultipliesSignedByUnsignedBytes) {
  for (const Shape& s : shapes) {
    const Bytes a = random_bytes(s.m * s.k * 4, 3);
    const Bytes b = random_bytes(s.k * s.n * 4, 4);
    std::vector<int32_t> c(s.m * s.n), got(s.m * s.n);
    const Bytes start = random_bytes(c.size() * 4, 5);  // large ones, so that sums wrap
    std::memcpy(c.data(), start.data(), start.size());
    configure(s.m, s.n, s.k);
    EmulatedTiles::load<0>(c.data(), 4 * s.n);
    EmulatedTiles::load<1>(a.data(), 4 * s.k);
    EmulatedTiles::load<2>(b.data(), 4 * s.n);
    EmulatedTiles::dot_s8u8<0, 1, 2>();
    EmulatedTiles::store<0>(got.data(), 4 * s.n);
    for (int m = 0; m < s.m; ++m) {
      for (int n = 0; n < s.n; ++n) {
        int64_t sum = c[m * s.n + n];
        for (int i = 0; i < 4 * s.k; ++i) {
          sum += static_cast<int8_t>(a[m * 4 * s.k + i]) * b[i / 4 * 4 * s.n + 4 * n + i % 4];
        }
        EXPECT_EQ(got[m * s.n + n], static_cast<int32_t>(static_cast<uint32_t>(sum)));
      }
    }
  }
}

// TDPBF16PS: even and odd elements of the pairs have sums of their own over k, which are added to
// each other and then to C.
TEST_F(EmulatedTile, MultipliesPairsOfBfloat16) {
  std::mt19937 generator(6);
  std::normal_distribution<float> normal;
  for (const Shape& s : shapes) {
    std::vector<uint16_t> a(s.m * s.k * 2), b(s.k * s.n * 2);
    std::vector<float> c(s.m * s.n), got(s.m * s.n);
    for (uint16_t& x : a) x = bf16_of(normal(generator));
    for (uint16_t& x : b) x = bf16_of(normal(generator));
    for (float& x : c) x = normal(generator);
    configure(s.m, s.n, s.k);
    EmulatedTiles::load<0>(c.data(), 4 * s.n);
    EmulatedTiles::load<1>(a.data(), 4 * s.k);
    EmulatedTiles::load<2>(b.data(), 4 * s.n);
    EmulatedTiles::dot_bf16<0, 1, 2>();
    EmulatedTiles::store<0>(got.data(), 4 * s.n);
    for (int m = 0; m < s.m; ++m) {
      for (int n = 0; n < s.n; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < s.k; ++k) {
          const uint16_t* pair_a = &a[(m * s.k + k) * 2];
          const uint16_t* pair_b = &b[(k * s.n + n) * 2];
          even = std::fma(float_of(pair_a[0]), float_of(pair_b[0]), even);
          odd = std::fma(float_of(pair_a[1]), float_of(pair_b[1]), odd);
        }
        EXPECT_EQ(got[m * s.n + n], c[m * s.n + n] + (even + odd));
      }
    }
  }
}

TEST_F(EmulatedTile, TreatsDenormalsAsZero) {
  const float normal = 0x1p-70f, tiny = 0x1p-130f;
  struct {
    float a, b, c, expected;
  } const cases[] = {
      {tiny, 0x1p100f, 1.0f, 1.0f},          // a denormal factor
      {normal, 0x1p-60f, 0.0f, 0.0f},        // a denormal product
      {1.0f, 0x1p-126f, tiny, 0x1p-126f},    // a denormal sum before
      {-1.0f, 0x1p-126f, 0x1.8p-126f, 0.0f}  // and after
  };
  for (const auto& test : cases) {
    const uint16_t a[2] = {bf16_of(test.a), 0}, b[2] = {bf16_of(test.b), 0};
    float c = test.c;
    configure(1, 1, 1);
    EmulatedTiles::load<0>(&c, 4);
    EmulatedTiles::load<1>(a, 4);
    EmulatedTiles::load<2>(b, 4);
    EmulatedTiles::dot_bf16<0, 1, 2>();
    EmulatedTiles::store<0>(&c, 4);
    EXPECT_EQ(c, daz(test.expected));
  }
}

// What the processor answers with an exception.
TEST_F(EmulatedTileDeathTest, RefusesWhatTheProcessorRefuses) {
  float c[16] = {};
  EXPECT_DEATH(EmulatedTiles::load<0>(c, 64), "configured");
  configure(2, 2, 2);
  EXPECT_DEATH(EmulatedTiles::zero<3>(), "rows\\[tile\\] > 0");
  EXPECT_DEATH((EmulatedTiles::dot_bf16<0, 1, 1>()), "a != b");
  TileConfig config;
  config.set(0, 2, 8);
  config.set(1, 3, 8);  // not as many rows as the sum
  config.set(2, 2, 8);
  config.set(4, 2, 4);  // half as deep as it should be
  config.set(5, 3, 4);
  EmulatedTiles::configure(config);
  EXPECT_DEATH((EmulatedTiles::dot_s8u8<0, 1, 2>()), "rows\\[c\\] == config.rows\\[a\\]");
  EXPECT_DEATH((EmulatedTiles::dot_s8u8<0, 4, 2>()),
               "column_bytes\\[a\\] / 4 == config.rows\\[b\\]");
  EXPECT_DEATH((EmulatedTiles::dot_bf16<0, 4, 5>()),
               "column_bytes\\[c\\] == config.column_bytes\\[b\\]");
  EmulatedTiles::release();
  EXPECT_DEATH(EmulatedTiles::zero<0>(), "configured");
  config.palette = 2;
  EXPECT_DEATH(EmulatedTiles::configure(config), "palette");
  config = {};
  config.set(9, 1, 4);
  EXPECT_DEATH(EmulatedTiles::configure(config), "tile_count");
  config = {};
  config.set(0, 17, 4);
  EXPECT_DEATH(EmulatedTiles::configure(config), "tile_rows");
  config = {};
  config.rows[0] = 1;  // without columns
  EXPECT_DEATH(EmulatedTiles::configure(config), "== 0");
}

}  // namespace ridge::backend::cpu::tiles_test
