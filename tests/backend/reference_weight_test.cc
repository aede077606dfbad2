#include <cstring>

#include "backend/arrays.h"
#include "backend/recorder.h"
#include "backend/reference/open.h"
#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"

namespace ridge::backend::reference {

namespace {

ErrorCode code_of(const WeightSource& source) {
  try {
    const ReferenceWeight weight(source);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.message()).find("blk.7"), std::string::npos) << error.message();
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::internal;
}

std::vector<float> row_of(const ReferenceWeight& weight, int64_t row, int64_t expert = 0) {
  std::vector<float> values(weight.columns());
  weight.read_row(expert, row, values);
  return values;
}

class ReferenceWeights : public testing::Test {
 protected:
  ReferenceWeights() {
    for (size_t i = 0; i < q8.size(); ++i) {
      q8[i].d = f32_to_f16(0.5f);
      for (int j = 0; j < 32; ++j) q8[i].codes[j] = static_cast<int8_t>(i * 10);
    }
  }
  // Rows of two Q8_0 blocks: row r holds 32 times 10r, then 32 times 10r + 5.
  std::vector<BlockQ8_0> q8 = std::vector<BlockQ8_0>(8);
  TensorView q8_view{DType::q8_0, Shape{4, 64}, std::as_bytes(std::span(q8))};
  std::vector<float> ones = std::vector<float>(128, 1.0f);
  TensorView ones_view{DType::f32, Shape{2, 64}, std::as_bytes(std::span(ones))};
};

TEST_F(ReferenceWeights, StacksSegmentsOfSeveralDTypes) {
  const ReferenceWeight weight({.name = "blk.7", .segments = {q8_view, ones_view}});
  EXPECT_EQ(weight.rows(), 6);
  EXPECT_EQ(weight.columns(), 64);
  EXPECT_EQ(weight.size_bytes(), 8u * 34 + 128u * 4);
  EXPECT_EQ(row_of(weight, 3)[0], 30);
  EXPECT_EQ(row_of(weight, 3)[63], 35);
  EXPECT_EQ(row_of(weight, 4)[5], 1);
}

TEST_F(ReferenceWeights, ShardOfRowsTakesItsPartOfEverySegment) {
  const ReferenceWeight weight(
      {.name = "blk.7", .segments = {q8_view, ones_view}, .shard = {Shard::Axis::rows, 1, 2}});
  EXPECT_EQ(weight.rows(), 3);
  EXPECT_EQ(row_of(weight, 0)[0], 20);
  EXPECT_EQ(row_of(weight, 1)[0], 30);
  EXPECT_EQ(row_of(weight, 2)[0], 1);
}

TEST_F(ReferenceWeights, ShardOfColumnsKeepsBlocksWhole) {
  const ReferenceWeight weight(
      {.name = "blk.7", .segments = {q8_view}, .shard = {Shard::Axis::columns, 1, 2}});
  EXPECT_EQ(weight.columns(), 32);
  EXPECT_EQ(row_of(weight, 2), std::vector<float>(32, 25));
  EXPECT_EQ(
      code_of({.name = "blk.7", .segments = {q8_view}, .shard = {Shard::Axis::columns, 0, 4}}),
      ErrorCode::invalid_argument);
  EXPECT_EQ(code_of({.name = "blk.7", .segments = {q8_view}, .shard = {Shard::Axis::rows, 0, 5}}),
            ErrorCode::invalid_argument);
}

TEST(RowsOfRank, AreWholeRunsOf16WhereThereAreEnough) {
  const auto parts = [](int64_t extent, int ranks) {
    std::vector<int64_t> begins;
    int64_t end = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const RowRange part = rows_of_rank(extent, rank, ranks);
      EXPECT_EQ(part.first, end);
      end += part.count;
      begins.push_back(part.count);
    }
    EXPECT_EQ(end, extent);
    return begins;
  };
  EXPECT_EQ(parts(576, 4), (std::vector<int64_t>{144, 144, 144, 144}));
  EXPECT_EQ(parts(80, 4), (std::vector<int64_t>{16, 16, 16, 32}));
  EXPECT_EQ(parts(48, 4), (std::vector<int64_t>{12, 12, 12, 12}));
  EXPECT_EQ(parts(10, 4), (std::vector<int64_t>{2, 3, 2, 3}));
}

TEST_F(ReferenceWeights, TransposedReadsColumns) {
  const ReferenceWeight weight({.name = "blk.7", .segments = {q8_view}, .transposed = true});
  EXPECT_EQ(weight.rows(), 64);
  EXPECT_EQ(weight.columns(), 4);
  EXPECT_EQ(row_of(weight, 40), (std::vector<float>{5, 15, 25, 35}));
  EXPECT_FALSE(weight.keeps_source());
}

TEST_F(ReferenceWeights, ExpertsOfSeveralSegmentsAreStackedWithinEach) {
  const std::vector<float> up = {1, 2, 3, 4}, gate = {5, 6};
  const ReferenceWeight weight(
      {.name = "blk.7",
       .segments = {{DType::f32, Shape{2, 2, 1}, std::as_bytes(std::span(up))},
                    {DType::f32, Shape{2, 1, 1}, std::as_bytes(std::span(gate))}}});
  EXPECT_EQ(weight.experts(), 2);
  EXPECT_EQ(weight.rows(), 3);
  EXPECT_EQ(row_of(weight, 1, /*expert=*/1)[0], 4);
  EXPECT_EQ(row_of(weight, 2, /*expert=*/1)[0], 6);
}

TEST_F(ReferenceWeights, VectorsAreJoinedEndToEnd) {
  const std::vector<float> a = {1, 2, 3};
  const uint16_t b[] = {f32_to_f16(0.5f)};
  const ReferenceWeight bias({.name = "blk.7",
                              .segments = {{DType::f32, Shape{3}, std::as_bytes(std::span(a))},
                                           {DType::f16, Shape{1}, std::as_bytes(std::span(b))}},
                              .use = WeightUse::vector});
  EXPECT_THAT(bias.vector(), testing::ElementsAre(1, 2, 3, 0.5f));
  EXPECT_EQ(bias.columns(), 4);
  EXPECT_FALSE(bias.keeps_source());
}

TEST_F(ReferenceWeights, RefusesWhatCannotBeStacked) {
  EXPECT_EQ(code_of({.name = "blk.7"}), ErrorCode::invalid_file);
  const TensorView narrow{DType::f32, Shape{4, 32}, ones_view.bytes};
  EXPECT_EQ(code_of({.name = "blk.7", .segments = {q8_view, narrow}}), ErrorCode::invalid_file);
  EXPECT_EQ(code_of({.name = "blk.7", .segments = {q8_view}, .use = WeightUse::vector}),
            ErrorCode::invalid_file);
}

TEST(ReferenceDevice, RefusesCollectivesOverSeveralRanksWhenCompiling) {
  const auto device = open({});
  const std::vector<float> table = {1, 2};
  const auto weight = device->prepare_weight(
      {.name = "table",
       .segments = {{DType::f32, Shape{1, 2}, std::as_bytes(std::span(table))}},
       .use = WeightUse::embedding});
  Recorder recorder({.tokens = 1}, {}, device->activation_dtype());
  recorder.all_gather(recorder.embed(*weight), {2, 2});
  EXPECT_THROW(device->compile(recorder.finish()), Error);
}

}  // namespace

}  // namespace ridge::backend::reference
