#include <algorithm>
#include <vector>

#include "backend/reference/ops.h"
#include "backend/reference/softmax.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

// The latents and rotary keys of a sequence's first `length` tokens.
struct Context {
  Context(const Sequences& sequences, int sequence, const ReferenceKvCache& cache, int layer)
      : length(sequences.context_lengths[sequence]),
        value_dim(cache.layout().value_dim),
        key_dim(cache.layout().key_dim),
        latents(static_cast<size_t>(length) * value_dim),
        rotary_keys(static_cast<size_t>(length) * key_dim) {
    for (int i = 0; i < length; ++i) {
      const int slot = sequences.slot(sequence, i, cache.layout().block_tokens);
      cache.load(layer, slot, /*head=*/0, KvPart::value, latent(i));
      cache.load(layer, slot, /*head=*/0, KvPart::key, rotary_key(i));
    }
  }
  std::span<float> latent(int i) { return head_of(std::span(latents), i, value_dim); }
  std::span<float> rotary_key(int i) { return head_of(std::span(rotary_keys), i, key_dim); }

  int length, value_dim, key_dim;
  std::vector<float> latents;      // [length, value_dim]
  std::vector<float> rotary_keys;  // [length, key_dim]
};

void attend(std::span<const float> q_latent, std::span<const float> q_rope, Context& context,
            int position, float scale, std::span<float> out) {
  std::vector<double> scores(position + 1);
  for (int i = 0; i <= position; ++i) {
    scores[i] = scale * (dot(q_latent, context.latent(i)) + dot(q_rope, context.rotary_key(i)));
  }
  softmax(scores);
  std::vector<double> sum(out.size(), 0.0);
  for (int i = 0; i <= position; ++i) {
    for (size_t c = 0; c < sum.size(); ++c) sum[c] += scores[i] * context.latent(i)[c];
  }
  std::copy(sum.begin(), sum.end(), out.begin());
}

}  // namespace

void mla_attention(Rows32 q_latent, Rows32 q_rope, const Sequences& sequences,
                   const ReferenceKvCache& cache, int layer, int heads, float scale, Rows32 out) {
  for (int s = 0; s < sequences.count(); ++s) {
    Context context(sequences, s, cache, layer);
    const int begin = sequences.query_starts[s];
    const int end = sequences.query_starts[s + 1];
    const int before = context.length - (end - begin);
    RIDGE_ASSERT(begin <= end && end <= q_latent.rows && before >= 0);
    for (int t = begin; t < end; ++t) {
      for (int h = 0; h < heads; ++h) {
        attend(head_of(q_latent.row(t), h, context.value_dim),
               head_of(q_rope.row(t), h, context.key_dim), context, before + t - begin, scale,
               head_of(out.row(t), h, context.value_dim));
      }
    }
  }
}

}  // namespace ridge::backend::reference
