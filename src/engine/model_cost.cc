#include "engine/model_cost.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace ridge::engine {

double ModelCost::decode_step_bytes(int batch, double context_tokens) const {
  const double chosen_share = 1 - std::pow(1 - expert_share, batch);  // by any of the sequences
  return static_cast<double>(weight_bytes) + static_cast<double>(expert_bytes) * chosen_share +
         static_cast<double>(kv_bytes) * batch * context_tokens;
}

double ModelCost::prefill_flops(int prompt_tokens, int depth_tokens) const {
  // Token i of the prompt sees depth + i + 1 tokens.
  const double seen = static_cast<double>(prompt_tokens) * depth_tokens +
                      0.5 * prompt_tokens * (prompt_tokens + 1.0);
  return 2.0 * (static_cast<double>(layer_weights) * prompt_tokens +
                static_cast<double>(attention_weights) * seen + static_cast<double>(head_weights));
}

namespace {

// 0 where the key is missing.
int64_t number_in(const format::GgufFile& file, std::string_view key) {
  const std::string full = std::string(file.architecture()) + "." + std::string(key);
  return file.metadata().contains(full) ? file.metadata().int64(full) : 0;
}

// used / count, 1 where the file has no experts.
double expert_share_of(const format::GgufFile& file) {
  const int64_t count = number_in(file, "expert_count");
  return count > 0 ? static_cast<double>(number_in(file, "expert_used_count")) /
                         static_cast<double>(count)
                   : 1.0;
}

// Of layers for multi-token prediction, the last blocks, which have no part in the model's passes.
std::vector<std::string> guessing_prefixes(const format::GgufFile& file) {
  std::vector<std::string> prefixes;
  const int64_t blocks = number_in(file, "block_count");
  const int64_t most = 64;
  for (int64_t i = 1; i <= std::min(number_in(file, "nextn_predict_layers"), most); ++i) {
    prefixes.push_back("blk." + std::to_string(blocks - i) + ".");
  }
  return prefixes;
}

}  // namespace

ModelCost cost_of(const format::GgufFile& file, const backend::KvCacheLayout& layout, int heads) {
  ModelCost cost;
  cost.expert_share = expert_share_of(file);
  const bool is_tied = file.find("output.weight") == nullptr;
  const std::vector<std::string> guessing = guessing_prefixes(file);
  for (const format::GgufTensor& tensor : file.tensors()) {
    const bool guesses = std::ranges::any_of(
        guessing, [&](const std::string& prefix) { return tensor.name.starts_with(prefix); });
    if (guesses) continue;
    const bool is_embedding = tensor.name == "token_embd.weight";
    if (is_embedding && !is_tied) continue;
    const auto elements = static_cast<uint64_t>(tensor.view.shape.elements());
    if (tensor.name.ends_with("_exps.weight")) {
      cost.expert_bytes += tensor.view.bytes.size();
      cost.layer_weights +=
          static_cast<uint64_t>(std::llround(static_cast<double>(elements) * cost.expert_share));
      continue;
    }
    cost.weight_bytes += tensor.view.bytes.size();
    if (tensor.view.shape.rank() < 2) continue;  // norms and biases
    const bool is_head = is_embedding || tensor.name == "output.weight";
    (is_head ? cost.head_weights : cost.layer_weights) += elements;
  }
  cost.kv_bytes = layout.bytes_per_token();
  // A latent is both a part of the key and the value.
  const int keys = layout.kind == backend::KvCacheLayout::Kind::latent
                       ? layout.key_dim + layout.value_dim
                       : layout.key_dim;
  cost.attention_weights = static_cast<uint64_t>(layout.layers) * static_cast<uint64_t>(heads) *
                           static_cast<uint64_t>(keys + layout.value_dim);
  return cost;
}

}  // namespace ridge::engine
