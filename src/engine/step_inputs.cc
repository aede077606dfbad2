#include "base/error.h"
#include "engine/step_runner.h"

namespace ridge::engine {

void StepInputs::clear() {
  for (auto* values : {&token_ids, &positions, &slots, &context_lengths, &block_tables,
                       &output_rows, &adapter_of_row}) {
    values->clear();
  }
  query_starts.assign(1, 0);
}

void StepInputs::add(std::span<const int32_t> tokens, int first_position,
                     const kvcache::BlockTable& blocks, int logits, int adapter) {
  const int count = static_cast<int>(tokens.size());
  RIDGE_ASSERT(logits >= 0 && logits <= count);
  RIDGE_ASSERT(count >= 1 && static_cast<int>(blocks.blocks().size()) <= blocks_per_sequence_);
  const int first_row = this->tokens();
  token_ids.insert(token_ids.end(), tokens.begin(), tokens.end());
  for (int position = first_position; position < first_position + count; ++position) {
    positions.push_back(position);
    slots.push_back(blocks.slot(position));
  }
  adapter_of_row.insert(adapter_of_row.end(), tokens.size(), adapter);
  query_starts.push_back(first_row + count);
  context_lengths.push_back(first_position + count);
  for (kvcache::BlockId block : blocks.blocks()) block_tables.push_back(block.value);
  block_tables.resize(context_lengths.size() * static_cast<size_t>(blocks_per_sequence_), 0);
  for (int row = first_row + count - logits; row < first_row + count; ++row) {
    output_rows.push_back(row);
  }
}

}  // namespace ridge::engine
