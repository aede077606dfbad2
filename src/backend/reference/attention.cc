#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/ops.h"
#include "backend/reference/softmax.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

struct Query {
  int sequence;
  int position;  // its own in the sequence's context
  int head;
};

void attend(std::span<const float> q, const Query& query, const Sequences& sequences,
            const ReferenceKvCache& cache, int layer, const AttentionParameters& p,
            std::span<float> out) {
  const KvCacheLayout& layout = cache.layout();
  const int kv_head = query.head / (p.heads / layout.kv_heads);
  const int first = p.window > 0 ? std::max(0, query.position - p.window + 1) : 0;
  std::vector<double> scores(query.position - first + 1);
  std::vector<float> key(layout.key_dim);
  for (size_t i = 0; i < scores.size(); ++i) {
    const int slot =
        sequences.slot(query.sequence, first + static_cast<int>(i), layout.block_tokens);
    cache.load(layer, slot, kv_head, KvPart::key, key);
    scores[i] = dot(q, key) * p.scale;
    if (p.soft_cap > 0) scores[i] = p.soft_cap * std::tanh(scores[i] / p.soft_cap);
  }
  softmax(scores, p.sinks.empty() ? -INFINITY : p.sinks[query.head]);

  std::vector<double> sum(layout.value_dim, 0.0);
  std::vector<float> value(layout.value_dim);
  for (size_t i = 0; i < scores.size(); ++i) {
    const int slot =
        sequences.slot(query.sequence, first + static_cast<int>(i), layout.block_tokens);
    cache.load(layer, slot, kv_head, KvPart::value, value);
    for (size_t c = 0; c < sum.size(); ++c) sum[c] += scores[i] * value[c];
  }
  std::copy(sum.begin(), sum.end(), out.begin());
}

}  // namespace

void attention(Rows32 q, const Sequences& sequences, const ReferenceKvCache& cache, int layer,
               const AttentionParameters& parameters, Rows32 out) {
  const KvCacheLayout& layout = cache.layout();
  for (int s = 0; s < sequences.count(); ++s) {
    const int begin = sequences.query_starts[s];
    const int end = sequences.query_starts[s + 1];
    // The step's tokens are the last of the context.
    const int before = sequences.context_lengths[s] - (end - begin);
    RIDGE_ASSERT(begin <= end && end <= q.rows && before >= 0);
    for (int t = begin; t < end; ++t) {
      for (int h = 0; h < parameters.heads; ++h) {
        attend(head_of(q.row(t), h, layout.key_dim), {s, before + t - begin, h}, sequences, cache,
               layer, parameters, head_of(out.row(t), h, layout.value_dim));
      }
    }
  }
}

}  // namespace ridge::backend::reference
