#pragma once

#include <string_view>
#include <vector>

#include "planner/layout.h"

namespace ridge::planner {

// What a forward pass computes in one replica. Values are means, and need not be whole.
struct Pass {
  double sequences = 1;
  double rows = 1;          // tokens computed of each sequence
  double context = 0;       // tokens that each of them attends to
  double cache_tokens = 0;  // of each sequence, read from the cache once for all its rows
  double logits_rows = 1;   // of each sequence
  bool decodes = true;      // attention over latents; else over heads multiplied out, as in prompts
  int drafts = 0;           // tokens guessed by multi-token prediction before it
  int active_replicas = 1;  // that run such a pass together
};

enum class Kind {
  attention_linears,
  attention,  // scores, and sums over values
  dense_feed_forward,
  shared_experts,  // and the router
  routed_experts,
  head,
  drafts,
};
std::string_view name(Kind kind);

// One kind of layer, in all layers, on one rank. Arithmetic and memory overlap within a kind, and
// kinds follow one another, as each needs what the one before it made.
struct KindCost {
  Kind kind;
  double flops = 0;  // a multiply-add being two
  double weight_bytes = 0;
  double cache_bytes = 0;
  double compute_s = 0;
  double memory_s = 0;
  double seconds = 0;  // the larger of both; of drafts, the sum over their kinds
};

// What bounds a pass.
enum class Limit { compute, weights, cache, interconnect };
std::string_view name(Limit limit);  // "compute", "memory (weights)", "memory (KV cache)", ...

struct StepCost {
  std::vector<KindCost> kinds;  // of one rank
  double work_s = 0;            // sum of the kinds
  double transfer_s = 0;        // the busier of links and network
  double latency_s = 0;         // of transfers that wait for one another
  double seconds = 0;           // of the whole pass
  Limit limit = Limit::compute;

  double flops() const;
  double bytes() const;
};

// The least time of a pass of a model that lies on devices in this way.
StepCost step_cost(const ModelShape& shape, const Formats& formats, const Layout& layout,
                   const Device& device, const Pass& pass);

// How many of `local` experts at least one of `rows` tokens uses, each with probability `share`,
// independently: local (1 - (1 - share)^rows).
double expected_distinct(double local, double share, double rows);

// Nodes but its own that a token travels to whose experts lie on `nodes` nodes by chance: of the
// expected nodes (1 - (1 - 1/nodes)^used) · nodes, at most `groups_used` where that is not 0, the
// share that is not its own.
double expected_remote_nodes(const ExpertShape& experts, double nodes);

}  // namespace ridge::planner
