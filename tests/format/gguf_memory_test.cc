// A program of its own, because it counts the allocations of the whole process.
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/watched_allocation.h"
#include "format/gguf.h"
#include "format/gguf_bytes.h"
#include "format/gguf_parser.h"

namespace {

std::atomic<size_t> largest_bytes{0};  // one allocation
std::atomic<size_t> total_bytes{0};    // all, freed or not

}  // namespace

void before_allocation(size_t size_bytes) {
  total_bytes += size_bytes;
  size_t seen = largest_bytes;
  while (size_bytes > seen && !largest_bytes.compare_exchange_weak(seen, size_bytes)) {
  }
}

namespace ridge::format::gguf_memory_test {

namespace {

struct Allocated {
  size_t largest_bytes;
  size_t total_bytes;
};

Allocated allocated_by_parsing(const GgufBytes& file) {
  largest_bytes = 0;
  total_bytes = 0;
  try {
    GgufFile::parse(file.bytes());
  } catch (const Error&) {
  }
  return {largest_bytes, total_bytes};
}

}  // namespace

TEST(GgufMemory, SmallFilesWithHugeClaimsAllocateLittle) {
  constexpr uint64_t u64_max = std::numeric_limits<uint64_t>::max();
  for (uint64_t claim : {u64_max, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{1} << 30,
                         tensors_max, metadata_keys_max}) {
    EXPECT_LT(allocated_by_parsing(GgufBytes(claim, 0)).total_bytes, 16'384u);
    EXPECT_LT(allocated_by_parsing(GgufBytes(0, claim)).total_bytes, 16'384u);
    EXPECT_LT(allocated_by_parsing(GgufBytes(0, 1).u64(claim)).total_bytes, 16'384u);
    for (GgufType type : {GgufType::uint8, GgufType::float64, GgufType::string, GgufType::array}) {
      GgufBytes file(0, 1);
      file.string("key").type(GgufType::array).type(type).u64(claim);
      EXPECT_LT(allocated_by_parsing(file).total_bytes, 16'384u);
    }
    EXPECT_LT(allocated_by_parsing(GgufBytes(1, 0).tensor("t", {claim}, f32_number, 0)).total_bytes,
              16'384u);
  }
}

// The densest files of each kind; the factors stay the same however large the file.
TEST(GgufMemory, StaysWithinASmallMultipleOfTheFile) {
  GgufBytes strings(0, 1);
  strings.string("key").type(GgufType::array).type(GgufType::string).u64(100'000);
  strings.data(800'000, /*alignment=*/1);
  EXPECT_LT(allocated_by_parsing(strings).total_bytes, 3 * strings.bytes().size());

  GgufBytes arrays(0, 1);
  arrays.string("key").type(GgufType::array).type(GgufType::array).u64(50'000);
  for (int i = 0; i < 50'000; ++i) arrays.type(GgufType::uint8).u64(0);
  EXPECT_LT(allocated_by_parsing(arrays).total_bytes, 10 * arrays.bytes().size());

  GgufBytes keys(0, 50'000);
  for (int i = 0; i < 50'000; ++i) keys.string(std::to_string(i)).type(GgufType::uint8).u8(0);
  EXPECT_LT(allocated_by_parsing(keys).total_bytes, 20 * keys.bytes().size());

  GgufBytes tensors(50'000, 0);
  for (int i = 0; i < 50'000; ++i) tensors.tensor(std::to_string(i), {8}, f32_number, 32u * i);
  tensors.data(32 * 50'000);
  EXPECT_LT(allocated_by_parsing(tensors).total_bytes, 10 * tensors.bytes().size());
}

}  // namespace ridge::format::gguf_memory_test
