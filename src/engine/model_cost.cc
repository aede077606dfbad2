#include "engine/model_cost.h"

namespace ridge::engine {

double ModelCost::decode_step_bytes(int batch, double context_tokens) const {
  return static_cast<double>(weight_bytes) + static_cast<double>(kv_bytes) * batch * context_tokens;
}

double ModelCost::prefill_flops(int prompt_tokens, int depth_tokens) const {
  // Token i of the prompt sees depth + i + 1 tokens.
  const double seen = static_cast<double>(prompt_tokens) * depth_tokens +
                      0.5 * prompt_tokens * (prompt_tokens + 1.0);
  return 2.0 * (static_cast<double>(layer_weights) * prompt_tokens +
                static_cast<double>(attention_weights) * seen + static_cast<double>(head_weights));
}

ModelCost cost_of(const format::GgufFile& file, const backend::KvCacheLayout& layout, int heads) {
  ModelCost cost;
  const bool is_tied = file.find("output.weight") == nullptr;
  for (const format::GgufTensor& tensor : file.tensors()) {
    const bool is_embedding = tensor.name == "token_embd.weight";
    if (is_embedding && !is_tied) continue;
    cost.weight_bytes += tensor.view.bytes.size();
    if (tensor.view.shape.rank() < 2) continue;  // norms and biases
    const bool is_head = is_embedding || tensor.name == "output.weight";
    (is_head ? cost.head_weights : cost.layer_weights) +=
        static_cast<uint64_t>(tensor.view.shape.elements());
  }
  cost.kv_bytes = layout.bytes_per_token();
  cost.attention_weights = static_cast<uint64_t>(layout.layers) * static_cast<uint64_t>(heads) *
                           static_cast<uint64_t>(layout.key_dim + layout.value_dim);
  return cost;
}

}  // namespace ridge::engine
