#include "backend/linear_inputs.h"

#include "base/error.h"

namespace ridge::backend {

namespace {

bool overlap(Value a, Value b) {
  return a.valid() && b.valid() && a.storage == b.storage && a.column < b.column + b.columns &&
         b.column < a.column + a.columns;
}

// Whether the op changes a value that was there before.
bool writes_in_place(const Op& op, Value value) {
  if (const auto* rope = std::get_if<Rope>(&op)) {
    return overlap(rope->q, value) || overlap(rope->k, value);
  }
  if (const auto* norm = std::get_if<AddRmsNorm>(&op)) return overlap(norm->residual, value);
  if (const auto* norm = std::get_if<RmsNorm>(&op)) return overlap(norm->out, value);
  if (const auto* lora = std::get_if<LoraLinear>(&op)) return overlap(lora->out, value);
  return false;
}

}  // namespace

std::vector<LinearInput> linear_inputs(const Recording& recording) {
  std::vector<LinearInput> inputs;
  for (size_t i = 0; i < recording.ops.size(); ++i) {
    const Op& op = recording.ops[i];
    LinearInput input;
    if (const auto* linear = std::get_if<Linear>(&op)) {
      input = {.weight = linear->weight, .x = linear->x};
    } else if (const auto* heads = std::get_if<HeadLinear>(&op)) {
      input = {.weight = heads->weight, .x = heads->x};
    } else if (const auto* experts = std::get_if<ExpertLinear>(&op)) {
      input = {.weight = experts->weight, .x = experts->x, .ids = experts->ids};
    } else if (const auto* store = std::get_if<StoreLatent>(&op)) {
      input = {.layer = store->layer, .x = store->latent};
    } else {
      continue;
    }
    for (size_t later = i + 1; later < recording.ops.size(); ++later) {
      RIDGE_ASSERT(!writes_in_place(recording.ops[later], input.x));
    }
    inputs.push_back(input);
  }
  return inputs;
}

}  // namespace ridge::backend
