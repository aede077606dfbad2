#pragma once

#include <cstdint>

#include "backend/kv_cache.h"
#include "format/gguf.h"

namespace ridge::engine {

// The least that steps of a model read and compute, so that a speed can be stated as a share of
// what the machine could do. Exact for dense models; of experts, tokens are taken to choose at
// random, all alike.
struct ModelCost {
  uint64_t weight_bytes = 0;  // every step reads these: all but a gathered embedding and experts
  uint64_t expert_bytes = 0;  // of all experts
  double expert_share = 1;    // of the experts that one token uses
  uint64_t layer_weights = 0;  // multiply-adds of one token in the layers
  uint64_t head_weights = 0;   // multiply-adds of one row of logits
  uint64_t kv_bytes = 0;       // of one token in the cache
  uint64_t attention_weights = 0;  // multiply-adds of one query token for each token of its context

  // Bytes of one step in which `batch` sequences decode, each over `context_tokens` on average.
  double decode_step_bytes(int batch, double context_tokens) const;
  // Floating-point operations, two a multiply-add, of a prompt after `depth_tokens` of context,
  // with one row of logits.
  double prefill_flops(int prompt_tokens, int depth_tokens) const;
};

// heads: query heads of a layer.
ModelCost cost_of(const format::GgufFile& file, const backend::KvCacheLayout& layout, int heads);

}  // namespace ridge::engine
