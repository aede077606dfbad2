#pragma once

#include "planner/device_table.h"
#include "planner/model_shape.h"
#include "planner/weight_format.h"

namespace ridge::planner {

// How a model lies on ranks.
struct Layout {
  int tensor_parallel = 1;  // ranks that share each linear and the heads of attention
  int replicas = 1;         // groups of so many ranks, each with sequences of its own
  // Experts lie over all ranks, and tokens travel to them (expert parallelism); else each expert is
  // cut in tensor_parallel parts, and each replica has all of them.
  bool spreads_experts = false;
  // Shared experts lie on ranks of their own beside those of the others, as in CloudMatrix-Infer;
  // else each rank has them.
  bool shared_apart = false;
  // A token travels to each expert by itself, as low-latency kernels do; else once to each node,
  // where it is handed on.
  bool sends_directly = false;
  // Two batches take turns, one computing while the other's tokens travel; else all wait for
  // transfers.
  bool overlaps_transfers = true;

  int ranks() const { return tensor_parallel * replicas; }
};

// Whether ranks that send each other something can: over links as far as they reach, over the
// network beyond. step_cost() takes forever where they cannot.
bool can_send(const Layout& layout, const Device& device);

// What is multiplied and cached, and how often.
struct Formats {
  WeightFormat weights;
  KvFormat cache;
};

// The share of a device's memory that weights and the cache may take; the rest is for activations,
// buffers of transfers and the software itself.
inline constexpr double usable_memory_share = 0.9;

// Bytes of one rank.
struct MemoryUse {
  double weight_bytes = 0;
  double cache_bytes_per_token = 0;  // of one sequence of the rank's replica
  double usable_bytes = 0;

  // The sequences of `tokens` that a replica has room for; 0 where the weights alone do not fit.
  double largest_batch(double tokens) const;
};

// drafts: whether modules of multi-token prediction are loaded.
MemoryUse memory_use(const ModelShape& shape, const Formats& formats, const Layout& layout,
                     const Device& device, bool drafts);

// Experts that one rank holds: at least one where they are spread.
double experts_on_rank(const ExpertShape& experts, const Layout& layout);

// Weights of the shared experts and the router in one layer, as far as each replica has them; of a
// model with experts.
double local_shared_weights(const ModelShape& shape, const Layout& layout);

// Of the cache, the share that each rank of a replica holds: heads are shared among ranks, latents
// are not.
double cache_share(const ModelShape& shape, const Layout& layout);

}  // namespace ridge::planner
