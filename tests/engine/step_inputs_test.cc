#include <gtest/gtest.h>

#include "engine/step_runner.h"

namespace ridge::engine::step_inputs_test {
namespace {

using Ints = std::vector<int32_t>;

TEST(StepInputs, LayOutSeveralSequencesRowByRow) {
  kvcache::BlockPool pool(10);
  kvcache::BlockTable first(pool, 4);
  kvcache::BlockTable second(pool, 4);
  ASSERT_TRUE(first.reserve(4));
  ASSERT_TRUE(second.reserve(4));
  ASSERT_TRUE(first.reserve(7));
  StepInputs inputs(/*blocks_per_sequence=*/3);
  inputs.add(Ints{10, 11, 12}, /*first_position=*/4, first, /*logits=*/1, /*adapter=*/3);
  inputs.add(Ints{20, 21}, /*first_position=*/0, second, /*logits=*/0);
  EXPECT_EQ(inputs.token_ids, (Ints{10, 11, 12, 20, 21}));
  EXPECT_EQ(inputs.positions, (Ints{4, 5, 6, 0, 1}));
  EXPECT_EQ(inputs.slots, (Ints{8, 9, 10, 4, 5}));
  EXPECT_EQ(inputs.query_starts, (Ints{0, 3, 5}));
  EXPECT_EQ(inputs.context_lengths, (Ints{7, 2}));
  EXPECT_EQ(inputs.block_tables, (Ints{0, 2, 0, 1, 0, 0}));
  EXPECT_EQ(inputs.output_rows, (Ints{2}));
  EXPECT_EQ(inputs.adapter_of_row, (Ints{3, 3, 3, -1, -1}));
  inputs.clear();
  EXPECT_EQ(inputs.tokens() + inputs.sequences() + inputs.outputs(), 0);
  inputs.add(Ints{5, 6}, 0, second, /*logits=*/2);
  EXPECT_EQ(inputs.output_rows, (Ints{0, 1}));
  EXPECT_EQ(inputs.query_starts, (Ints{0, 2}));
  EXPECT_EQ(inputs.adapter_of_row, (Ints{-1, -1}));
}

}  // namespace
}  // namespace ridge::engine::step_inputs_test
