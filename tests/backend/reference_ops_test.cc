#include <cmath>
#include <numbers>

#include "backend/arrays.h"
#include "base/error.h"

// Worked examples: every expected number was found by hand or from the formula named beside it.
namespace ridge::backend::reference {

namespace {

TEST(ReferenceEmbed, GathersDequantisedRows) {
  const std::vector<float> table = {0, 1, 10, 11, 20, 21};
  Array out(3, 2);
  const int32_t ids[] = {2, 0, 2};
  embed(ids, weight_over(table, Shape{3, 2}), out);
  expect_values(out, {20, 21, 0, 1, 20, 21}, 0);
}

TEST(ReferenceRmsNorm, DividesByTheRootMeanSquare) {
  Array x(2, 2, {3, 4, 0, 0});  // mean square 12.5
  Array out(2, 2);
  rms_norm(x, std::vector<float>{1, 2}, 0.5f, out);
  expect_values(out, {3 / std::sqrt(13.0), 8 / std::sqrt(13.0), 0, 0});
}

TEST(ReferenceAddRmsNorm, LeavesTheSumInTheResidual) {
  Array x(1, 2, {1, 5});
  Array residual(1, 2, {2, -1});
  Array out(1, 2);
  add_rms_norm(x, residual, std::vector<float>{1, 1}, 0.0f, out);
  expect_values(residual, {3, 4}, 0);
  expect_values(out, {3 / std::sqrt(12.5), 4 / std::sqrt(12.5)});
}

TEST(ReferenceQuantizeRows, RoundsHalvesToEven) {
  Array x(2, 5, {127, -63.5, 0.5, 1.5, -126.6, 0, 0, 0, 0, 0});
  std::vector<int8_t> codes(10);
  Array scales(2, 1);
  quantize_rows(x, {codes.data(), 2, 5, 5}, scales);
  EXPECT_EQ(codes, (std::vector<int8_t>{127, -64, 0, 2, -127, 0, 0, 0, 0, 0}));
  expect_values(scales, {1, 0}, 0);
}

TEST(ReferenceLinear, MultipliesByTheTransposeAndAddsTheBias) {
  Array x(2, 3, {1, 2, 3, 0, -1, 4});
  const std::vector<float> w = {1, 0, -1, 2, 2, 2};
  Array out(2, 2);
  linear(x, weight_over(w, Shape{2, 3}), std::vector<float>{10, 0.5}, out);
  expect_values(out, {8, 12.5, 6, 6.5}, 0);
}

TEST(ReferenceLinear, ReadsAColumnSliceByItsStride) {
  Array wide(2, 5, {9, 1, 2, 3, 9, 9, 0, -1, 4, 9});
  const Rows32 x{wide.values.data() + 1, 2, 3, 5};
  const std::vector<float> w = {1, 0, -1, 2, 2, 2};
  Array out(2, 2);
  linear(x, weight_over(w, Shape{2, 3}), {}, out);
  expect_values(out, {-2, 12, -4, 6}, 0);
}

TEST(ReferenceLinear, SumsExactlyWhereFloat32WouldNot) {
  Array x(1, 3, {16777216, 1, -16777216});
  const std::vector<float> ones = {1, 1, 1};
  Array out(1, 1);
  linear(x, weight_over(ones, Shape{1, 3}), {}, out);
  expect_values(out, {1}, 0);
}

TEST(ReferenceGatedActivation, Silu) {
  Array x(1, 4, {1, -1.5, 2, 3});  // gates, then ups
  Array out(1, 2);
  gated_activation(x, Activation::silu, 1, out);
  expect_values(out, {1.4621171572600098, -0.8209148571286036});  // g / (1 + exp(-g)) · u
}

TEST(ReferenceGatedActivation, TakesGroupsOneAfterTheOther) {
  Array x(1, 8, {1, -1.5, 2, 3, 0, 1, 5, 2});  // the first group's gates and ups, then the second's
  Array out(1, 4);
  gated_activation(x, Activation::silu, 2, out);
  expect_values(out, {1.4621171572600098, -0.8209148571286036, 0, 1.4621171572600098});
}

TEST(ReferenceGatedActivation, GeluTanh) {
  Array x(1, 4, {1, -2, 1, 0.5});
  Array out(1, 2);
  gated_activation(x, Activation::gelu_tanh, 1, out);
  expect_values(out, {0.8411919906082768, -0.02270115295611});
}

TEST(ReferenceGatedActivation, ClampedFormOfGptOss) {
  Array x(1, 4, {10, -1, -9, 0.25});
  Array out(1, 2);
  gated_activation(x, Activation::swiglu_oai, 1, out);
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  expect_values(out, {7 * sigmoid(1.702 * 7) * (-7 + 1), -sigmoid(-1.702) * 1.25}, 1e-5);
}

// A quarter turn at position 1 for the first pair, none for the second.
RopeTable quarter_turn(RopePairs pairs) {
  return {
      .inverse_frequencies = {std::numbers::pi_v<float> / 2, 0}, .magnitude = 2, .pairs = pairs};
}

TEST(ReferenceRope, NeoxPairsHalvesOfTheHead) {
  Array x(2, 6, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6});
  const int32_t positions[] = {0, 1};
  rope(x, positions, /*head_dim=*/6, quarter_turn(RopePairs::neox));
  // Dimensions 4 and 5 lie beyond the rotary part.
  expect_values(x, {2, 4, 6, 8, 5, 6, -6, 4, 2, 8, 5, 6});
}

TEST(ReferenceRope, InterleavedPairsNeighbours) {
  Array x(1, 8, {1, 2, 3, 4, 5, 6, 7, 8});  // two heads of four
  const int32_t positions[] = {1};
  rope(x, positions, /*head_dim=*/4, quarter_turn(RopePairs::interleaved));
  expect_values(x, {-4, 2, 6, 8, -12, 10, 14, 16}, 1e-5);
}

TEST(ReferenceAddScaleGather, DoWhatTheySay) {
  Array a(2, 2, {1, 2, 3, 4});
  Array b(2, 2, {10, 20, 30, 40});
  Array out(2, 2);
  add(a, b, out);
  expect_values(out, {11, 22, 33, 44}, 0);
  scale(a, -0.5f, out);
  expect_values(out, {-0.5, -1, -1.5, -2}, 0);
  const int32_t rows[] = {1};
  Array one(1, 2);
  gather_rows(b, rows, one);
  expect_values(one, {30, 40}, 0);
}

TEST(ReferenceTopK, DescendsWithTiesToTheSmallerId) {
  Array logits(1, 6, {1, 5, 2, 5, -3, 2});
  Array values(1, 4);
  std::vector<int32_t> ids(4);
  top_k(logits, values, {ids.data(), 1, 4, 4});
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 2, 5}));
  expect_values(values, {5, 5, 2, 2}, 0);
}

TEST(ReferenceSample, TakesTheFirstOfTheLargest) {
  Array logits(2, 3, {1, 7, 7, -1, -2, -1});
  std::vector<int32_t> ids(2);
  sample(logits, {ids.data(), 2, 1, 1});
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 0}));
}

// The second of two ranks, the first of which says nothing but 7.
class BesideSevens final : public Communicator {
 public:
  int rank() const override { return 1; }
  int ranks() const override { return 2; }
  void all_gather(std::span<const std::byte> own, std::span<const size_t> counts,
                  std::span<std::byte> all) override {
    ASSERT_EQ(counts[1], own.size());
    const std::vector<float> sevens(counts[0] / sizeof(float), 7);
    std::memcpy(all.data(), sevens.data(), counts[0]);
    std::memcpy(all.data() + counts[0], own.data(), own.size());
  }
  void broadcast(std::span<std::byte>) override { FAIL(); }
};

TEST(ReferenceCommunicate, PutsTheRanksPartsOfEachGroupSideBySide) {
  Array x(2, 4, {1, 2, 3, 4, 5, 6, 7, 8});
  Array out(2, 6);
  BesideSevens communicator;
  communicate(x, {Reduction::all_gather, {}, {}, {1, 2}, /*groups=*/2}, &communicator, out);
  expect_values(out, {7, 1, 2, 7, 3, 4, 7, 5, 6, 7, 7, 8}, 0);
}

TEST(ReferenceCommunicate, IsTheIdentityOnOneRank) {
  Array x(1, 2, {1, 2});
  Array same(1, 2);
  communicate(x, {Reduction::all_reduce, {}, {}, {}}, nullptr, same);
  expect_values(same, {1, 2}, 0);
}

}  // namespace

}  // namespace ridge::backend::reference
