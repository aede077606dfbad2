#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "backend/cpu/open.h"
#include "backend/cpu/tile_format.h"
#include "backend/cpu/weight.h"
#include "base/checksum.h"
#include "conformance/random_weights.h"

namespace ridge::backend::cpu::prepared_weight_test {

namespace {

using conformance::random_weight;

constexpr DType all_dtypes[] = {DType::f32,  DType::f16,    DType::bf16,  DType::q4_0,
                                DType::q4_1, DType::q5_0,   DType::q5_1,  DType::q8_0,
                                DType::q2_k, DType::q3_k,   DType::q4_k,  DType::q5_k,
                                DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

// Keeps in memory; counts what it is asked.
class MemoryStore final : public PreparedStore {
 public:
  void begin(std::string_view, uint64_t) override {}
  std::span<const std::byte> find(std::string_view key) const override {
    const auto entry = kept.find(std::string(key));
    return entry == kept.end() ? std::span<const std::byte>() : entry->second;
  }
  void keep(std::string_view key, std::span<const std::byte> bytes) override {
    kept[std::string(key)].assign(bytes.begin(), bytes.end());
  }
  void finish() override {}

  std::map<std::string, std::vector<std::byte>> kept;
};

std::vector<std::byte> tiles_of(const Weight& weight) {
  std::vector<std::byte> bytes;
  for (const WeightPart& part : static_cast<const CpuWeight&>(weight).parts()) {
    bytes.insert(bytes.end(), part.tiles, part.tiles + part.tile_bytes());
  }
  return bytes;
}

std::unique_ptr<Device> open_isa(const std::string& isa) {
  return open({.threads = 2, .isa = isa, .threads_spin = false});
}

}  // namespace

TEST(PreparedWeight, IsTheSameFromAStore) {
  conformance::Random random(1);
  for (const DType dtype : all_dtypes) {
    const auto device = open_isa("");
    const auto weight = random_weight(random, {{dtype, 37}, {DType::q8_0, 16}}, 512);
    MemoryStore store;
    const auto first = device->prepare_weight(weight->source, &store);
    ASSERT_EQ(store.kept.size(), 1u);
    EXPECT_EQ(store.kept.begin()->second.size(), device->prepared_bytes(weight->source));
    const auto second = device->prepare_weight(weight->source, &store);
    EXPECT_EQ(tiles_of(*second), tiles_of(*device->prepare_weight(weight->source)));
    EXPECT_EQ(tiles_of(*second), tiles_of(*first));
    EXPECT_EQ(second->size_bytes(), first->size_bytes());
    // Read where it lies, not copied.
    EXPECT_EQ(static_cast<const CpuWeight&>(*second).parts()[0].tiles,
              store.kept.begin()->second.data());
    std::vector<float> row(512);
    std::vector<float> row_from_store(512);
    for (const int64_t index : {0, 36, 37, 52}) {
      static_cast<const CpuWeight&>(*first).gather(index, row.data());
      static_cast<const CpuWeight&>(*second).gather(index, row_from_store.data());
      EXPECT_EQ(row, row_from_store);
    }
  }
}

TEST(PreparedWeight, OfAnotherSizeIsPreparedAnew) {
  conformance::Random random(2);
  const auto device = open_isa("");
  const auto weight = random_weight(random, {{DType::q4_k, 32}}, 256);
  MemoryStore store;
  const auto first = device->prepare_weight(weight->source, &store);
  for (const size_t size : {size_t{0}, first->size_bytes() - 1, first->size_bytes() + 1}) {
    store.kept.begin()->second.resize(size);
    EXPECT_EQ(tiles_of(*device->prepare_weight(weight->source, &store)), tiles_of(*first));
    EXPECT_EQ(store.kept.begin()->second, tiles_of(*first)) << "kept again";
  }
}

TEST(PreparedWeight, OfOtherShapeOrTypeIsNotFound) {
  conformance::Random random(3);
  const auto device = open_isa("");
  MemoryStore store;
  size_t kept = 0;
  for (const auto& segments : std::vector<std::vector<conformance::RandomSegment>>{
           {{DType::q4_0, 32}},
           {{DType::iq4_nl, 32}},  // of the same size
           {{DType::q4_0, 16}, {DType::iq4_nl, 16}},
           {{DType::q4_0, 31}}}) {
    auto weight = random_weight(random, segments, 128);
    device->prepare_weight(weight->source, &store);
    EXPECT_EQ(store.kept.size(), ++kept);
  }
}

// What one instruction set has kept, another may find: as long as they share a layout's name, their
// tiles must be the same.
TEST(PreparedWeight, IsTheSameForAllInstructionSetsOfALayout) {
  conformance::Random random(4);
  const auto weight = random_weight(random, {{DType::q4_k, 40}, {DType::q6_k, 16}}, 512);
  std::map<std::string, std::vector<std::byte>> by_layout;
  for (const std::string& isa : available_isas()) {
    const auto device = open_isa(isa);
    const auto tiles = tiles_of(*device->prepare_weight(weight->source));
    const auto entry = by_layout.try_emplace(device->prepared_layout(), tiles).first;
    EXPECT_EQ(entry->second, tiles) << isa;
  }
}

TEST(PreparedWeight, OnlyTilesAreKept) {
  conformance::Random random(5);
  const auto device = open_isa("");
  MemoryStore store;
  const auto embedding = random_weight(random, {{DType::q8_0, 32}}, 64, WeightUse::embedding);
  const auto norm = conformance::weight_of(std::vector<float>(64, 1.0f), 64, WeightUse::vector);
  for (const auto& each : {embedding, norm}) {
    device->prepare_weight(each->source, &store);
    EXPECT_EQ(device->prepared_bytes(each->source), 0u);
  }
  EXPECT_TRUE(store.kept.empty());
}

// Files of prepared weights outlive the program that wrote them. Where this fails because the
// layout was changed, tile_layout must get a new number, and this test new sums.
TEST(PreparedWeight, LayoutNameChangesWithTheLayout) {
  ASSERT_EQ(std::string(tile_layout), "cpu-tiles-1");
  std::string sums;
  const auto device = open_isa("scalar");
  for (const DType dtype : all_dtypes) {
    const size_t row = row_bytes(dtype, 512);
    std::vector<std::byte> bytes(row * 20);
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>((i * 2654435761u) >> 13);
    }
    const WeightSource source = {
        .name = "w", .segments = {{.dtype = dtype, .shape = Shape{20, 512}, .bytes = bytes}}};
    sums +=
        fmt::format("{} {:016x}\n", name(dtype), xxh64(tiles_of(*device->prepare_weight(source))));
  }
  EXPECT_EQ(sums, R"(F32 41b67eeee79d0b75
F16 e41473d13ffb7fde
BF16 e41473d13ffb7fde
Q4_0 3b3b9cd90229706f
Q4_1 f257d8ede86f81c8
Q5_0 339c9fa2ad286816
Q5_1 5b499a23d8fbedc1
Q8_0 3934d418a38e7415
Q2_K 4a706766917445ff
Q3_K d457145531217186
Q4_K 2b08d0c908df6e5c
Q5_K a771ac20785b5f3a
Q6_K 36adffd701f4ddaa
IQ4_NL 3b3b9cd90229706f
IQ4_XS fe572bcca98605ae
MXFP4 9eb9249359f75b16
)");
}

}  // namespace ridge::backend::cpu::prepared_weight_test
