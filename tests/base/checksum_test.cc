#include "base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace ridge {

namespace {

std::vector<std::byte> counted_bytes(size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 131 + 7);
  return bytes;
}

}  // namespace

// Expected values are those of the xxhash package from PyPI.
TEST(Checksum, AgreesWithXxhash) {
  struct Golden {
    size_t bytes;
    uint64_t seed;
    uint64_t sum;
  };
  constexpr Golden goldens[] = {
      {0, 0, 0xef46db3751d8e999u},    {0, 2654435761, 0xac75fda2929b17efu},
      {1, 0, 0xa96c7f0ce858bbb7u},    {3, 2654435761, 0x00b77b485431ce5du},
      {4, 0, 0xfa212ae44b3bb23du},    {7, 2654435761, 0xcdf83b729545b016u},
      {8, 0, 0x994b676b71ce94ddu},    {15, 0, 0x09e6451ed2ff8b1du},
      {31, 0, 0x6711d55e306b5d8fu},   {32, 0, 0x07f7b8e3bc5d6e25u},
      {33, 0, 0x09f85eeb4e1cbe9fu},   {63, 2654435761, 0x184bc5097530bb9au},
      {64, 0, 0x50d4159a0411632eu},   {100, 0, 0x9ddada11d3dc2d8fu},
      {1000, 0, 0x0bf0bdbcc82eb373u}, {4097, 2654435761, 0xf217d0d167d965cdu},
  };
  for (const Golden& golden : goldens) {
    EXPECT_EQ(xxh64(counted_bytes(golden.bytes), golden.seed), golden.sum) << golden.bytes;
  }
}

TEST(Checksum, AnyChangedByteChangesIt) {
  std::vector<std::byte> bytes = counted_bytes(100);
  const uint64_t sum = xxh64(bytes);
  for (std::byte& each : bytes) {
    each ^= std::byte{128};
    EXPECT_NE(xxh64(bytes), sum);
    each ^= std::byte{128};
  }
}

}  // namespace ridge
