#include "engine/rank_messages.h"

#include "base/error.h"

namespace ridge::engine {

std::vector<int32_t> pack(const StepInputs& inputs) {
  std::vector<int32_t> values = {inputs.tokens(), inputs.sequences(), inputs.outputs()};
  for (const auto* each : {&inputs.token_ids, &inputs.positions, &inputs.slots,
                           &inputs.query_starts, &inputs.context_lengths, &inputs.block_tables,
                           &inputs.output_rows}) {
    values.insert(values.end(), each->begin(), each->end());
  }
  return values;
}

void unpack(std::span<const int32_t> values, StepInputs& inputs) {
  RIDGE_ASSERT(values.size() >= 3);
  const auto tokens = static_cast<size_t>(values[0]);
  const auto sequences = static_cast<size_t>(values[1]);
  const auto outputs = static_cast<size_t>(values[2]);
  values = values.subspan(3);
  const auto take = [&](std::vector<int32_t>& to, size_t count) {
    RIDGE_ASSERT(count <= values.size());
    to.assign(values.begin(), values.begin() + static_cast<ptrdiff_t>(count));
    values = values.subspan(count);
  };
  take(inputs.token_ids, tokens);
  take(inputs.positions, tokens);
  take(inputs.slots, tokens);
  take(inputs.query_starts, sequences + 1);
  take(inputs.context_lengths, sequences);
  RIDGE_ASSERT(values.size() >= outputs);
  take(inputs.block_tables, values.size() - outputs);
  take(inputs.output_rows, outputs);
  inputs.adapter_of_row.assign(tokens, -1);
}

}  // namespace ridge::engine
