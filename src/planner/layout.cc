#include "planner/layout.h"

#include <algorithm>
#include <cmath>

namespace ridge::planner {

bool can_send(const Layout& layout, const Device& device) {
  const int together = layout.spreads_experts ? layout.ranks() : layout.tensor_parallel;
  const Rank rank(device);
  const bool uses_links = std::min(together, rank.link_ranks) > 1;
  const bool uses_network = together > rank.link_ranks;
  return (!uses_links || rank.link_bytes_per_second > 0) &&
         (!uses_network || rank.network_bytes_per_second > 0);
}

double experts_on_rank(const ExpertShape& experts, const Layout& layout) {
  const double all = experts.count;
  return layout.spreads_experts ? std::max(1.0, all / layout.ranks()) : all;
}

double local_shared_weights(const ModelShape& shape, const Layout& layout) {
  if (!layout.shared_apart) return shape.shared_weights();
  return static_cast<double>(shape.hidden) * shape.experts->count;
}

double cache_share(const ModelShape& shape, const Layout& layout) {
  const int heads = shape.latent ? 1 : shape.kv_heads;
  return 1.0 / std::min(layout.tensor_parallel, heads);
}

double MemoryUse::largest_batch(double tokens) const {
  const double room = usable_bytes - weight_bytes;
  return room <= 0 ? 0 : std::floor(room / (cache_bytes_per_token * tokens));
}

MemoryUse memory_use(const ModelShape& shape, const Formats& formats, const Layout& layout,
                     const Device& device, bool drafts) {
  const double t = layout.tensor_parallel;
  const auto expert_bytes = [&](double layers) {
    if (!shape.experts) return 0.0;
    const double held = experts_on_rank(*shape.experts, layout) * shape.expert_weights() *
                        formats.weights.expert_bytes() / (layout.spreads_experts ? 1 : t);
    return layers * (held + local_shared_weights(shape, layout) * formats.weights.bytes() / t);
  };
  MemoryUse use;
  use.usable_bytes = usable_memory_share * Rank(device).memory_bytes;
  use.weight_bytes =
      (shape.layers * shape.attention_weights() +
       shape.dense_layers() * shape.feed_forward_weights()) *
          formats.weights.bytes() / t +
      expert_bytes(shape.expert_layers()) +
      (shape.has_tied_embeddings ? 1 : 2) * shape.head_weights() * formats.weights.head_bytes() / t;
  int cached_layers = shape.layers;
  if (drafts && shape.draft_layers > 0) {
    cached_layers += 1;
    use.weight_bytes += shape.draft_weights() * formats.weights.bytes() / t + expert_bytes(1);
  }
  use.cache_bytes_per_token = shape.cached_values() * cached_layers / shape.layers *
                              formats.cache.bytes * cache_share(shape, layout);
  return use;
}

}  // namespace ridge::planner
