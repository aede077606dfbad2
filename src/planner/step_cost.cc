#include "planner/step_cost.h"

#include <algorithm>
#include <cmath>

namespace ridge::planner {
namespace {

constexpr double activation_bytes = 2;  // 16-bit floats travel between linears

// Computes the kinds of some layers of a pass on one rank.
class KindCosts {
 public:
  KindCosts(const ModelShape& shape, const Formats& formats, const Layout& layout,
            const Device& device)
      : shape_(shape), formats_(formats), layout_(layout), device_(device), rank_(device) {}

  std::vector<KindCost> compute(const Pass& pass, double dense_layers, double expert_layers) const {
    const double t = layout_.tensor_parallel;
    const double rows = pass.sequences * pass.rows;
    const double layers = dense_layers + expert_layers;
    std::vector<KindCost> kinds;
    const auto add_linear = [&](Kind kind, double weights, double count, double bytes) {
      if (weights == 0) return;
      kinds.push_back(linear(kind, weights / t, count, weights / t * bytes));
    };
    const double bytes = formats_.weights.bytes();
    add_linear(Kind::attention_linears, layers * shape_.attention_weights(), rows, bytes);
    kinds.push_back(attention(pass, layers));
    add_linear(Kind::dense_feed_forward, dense_layers * shape_.feed_forward_weights(), rows, bytes);
    if (expert_layers > 0) {
      add_linear(Kind::shared_experts, expert_layers * local_shared_weights(shape_, layout_), rows,
                 bytes);
      kinds.push_back(experts(pass, expert_layers));
    }
    kinds.push_back(head(pass));
    return kinds;
  }

  // Each guess is a pass of one row over one layer and the head, one after the other.
  KindCost drafts(const Pass& pass) const {
    Pass guess = pass;
    guess.rows = guess.logits_rows = 1;
    const bool has_experts = shape_.experts.has_value();
    std::vector<KindCost> kinds = compute(guess, has_experts ? 0 : 1, has_experts ? 1 : 0);
    const double projection = 2.0 * shape_.hidden * shape_.hidden / layout_.tensor_parallel;
    kinds.push_back(
        linear(Kind::drafts, projection, guess.sequences, projection * formats_.weights.bytes()));
    KindCost sum{.kind = Kind::drafts};
    for (const KindCost& kind : kinds) {
      sum.flops += pass.drafts * kind.flops;
      sum.weight_bytes += pass.drafts * kind.weight_bytes;
      sum.cache_bytes += pass.drafts * kind.cache_bytes;
      sum.compute_s += pass.drafts * kind.compute_s;
      sum.memory_s += pass.drafts * kind.memory_s;
      sum.seconds += pass.drafts * kind.seconds;
    }
    return sum;
  }

 private:
  KindCost cost(Kind kind, double flops, double weight_bytes, double cache_bytes,
                const std::vector<Arithmetic>& arithmetic) const {
    const double peak = device_.flops_per_second(device_.arithmetic(arithmetic)) / device_.ranks;
    KindCost cost{.kind = kind,
                  .flops = flops,
                  .weight_bytes = weight_bytes,
                  .cache_bytes = cache_bytes,
                  .compute_s = flops / peak,
                  .memory_s = (weight_bytes + cache_bytes) / rank_.bytes_per_second};
    cost.seconds = std::max(cost.compute_s, cost.memory_s);
    return cost;
  }

  KindCost linear(Kind kind, double weights, double rows, double bytes) const {
    return cost(kind, 2 * weights * rows, bytes, 0, formats_.weights.arithmetic);
  }

  KindCost attention(const Pass& pass, double layers) const {
    const double pairs = pass.sequences * pass.rows * pass.context;
    const double flops =
        2 * layers * pairs * shape_.attention_multiplies(pass.decodes) / layout_.tensor_parallel;
    const double bytes = pass.sequences * pass.cache_tokens * layers *
                         (shape_.cached_values() / shape_.layers) * formats_.cache.bytes *
                         cache_share(shape_, layout_);
    return cost(Kind::attention, flops, 0, bytes, formats_.cache.arithmetic);
  }

  KindCost experts(const Pass& pass, double layers) const {
    const ExpertShape& experts = *shape_.experts;
    const double share = static_cast<double>(experts.used) / experts.count;
    const double own_rows = pass.sequences * pass.rows;
    // Spread over all ranks, a rank's experts see the rows of all replicas; cut in parts, all
    // experts those of its own replica.
    const double all_rows = layout_.spreads_experts ? own_rows * pass.active_replicas : own_rows;
    const double local = experts_on_rank(experts, layout_);
    const double parts = layout_.spreads_experts ? 1 : layout_.tensor_parallel;
    const double ranks = layout_.spreads_experts ? layout_.ranks() : layout_.tensor_parallel;
    const double weights = shape_.expert_weights();
    const double distinct = expected_distinct(local, share, all_rows);
    const double used = experts.used + (layout_.shared_apart ? experts.shared : 0);
    return cost(Kind::routed_experts, 2 * layers * weights * all_rows * used / ranks,
                layers * distinct * weights / parts * formats_.weights.expert_bytes(), 0,
                formats_.weights.arithmetic);
  }

  // Heads stay in 16 bits where the weights have 8: nobody loses accuracy there.
  KindCost head(const Pass& pass) const {
    const double weights = shape_.head_weights() / layout_.tensor_parallel;
    const bool is_wide = formats_.weights.head_bits == 16;
    return cost(Kind::head, 2 * weights * pass.sequences * pass.logits_rows,
                weights * formats_.weights.head_bytes(), 0,
                is_wide ? std::vector{Arithmetic::f16} : formats_.weights.arithmetic);
  }

  const ModelShape& shape_;
  const Formats& formats_;
  const Layout& layout_;
  const Device& device_;
  Rank rank_;
};

struct Transfers {
  double link_bytes = 0;
  double network_bytes = 0;
  double latency_s = 0;
};

class TransferCosts {
 public:
  TransferCosts(const ModelShape& shape, const Formats& formats, const Layout& layout,
                const Device& device)
      : shape_(shape), formats_(formats), layout_(layout), device_(device), rank_(device) {}

  Transfers compute(const Pass& pass) const {
    Transfers sum;
    add_layers(sum, pass, shape_.dense_layers(), shape_.expert_layers());
    if (pass.drafts > 0) {
      Pass guess = pass;
      guess.rows = 1;
      for (int i = 0; i < pass.drafts; ++i) {
        add_layers(sum, guess, shape_.experts ? 0 : 1, shape_.experts ? 1 : 0);
      }
    }
    return sum;
  }

  double seconds(const Transfers& transfers) const {
    const auto time = [](double bytes, double rate) { return bytes > 0 ? bytes / rate : 0; };
    return std::max(time(transfers.link_bytes, rank_.link_bytes_per_second),
                    time(transfers.network_bytes, rank_.network_bytes_per_second));
  }

 private:
  void add_layers(Transfers& sum, const Pass& pass, double dense, double expert) const {
    // Parts of attention's output are summed, and so are those of what follows it, but of experts
    // that are spread: there the sum is scattered and tokens come back whole.
    if (layout_.tensor_parallel > 1) {
      const double sums = 2 * dense + (layout_.spreads_experts ? 1 : 2) * expert;
      add_sum(sum, pass.sequences * pass.rows, sums);
    }
    if (layout_.spreads_experts && layout_.ranks() > 1 && expert > 0) {
      add_exchange(sum, pass.sequences * pass.rows / layout_.tensor_parallel, expert);
    }
  }

  // A sum over ranks (all-reduce): each sends 2 (t - 1) / t of the values (Patarasuk and Yuan,
  // "Bandwidth optimal all-reduce algorithms", 2009), and over the network only its own share of
  // the node's.
  void add_sum(Transfers& sum, double rows, double count) const {
    const double t = layout_.tensor_parallel;
    const double bytes = rows * shape_.hidden * activation_bytes * count;
    const double local = std::min<double>(t, rank_.link_ranks);
    const double nodes = std::ceil(t / local);
    sum.link_bytes += 2 * (local - 1) / local * bytes;
    sum.network_bytes += 2 * (nodes - 1) / nodes * bytes / local;
    sum.latency_s += count * (nodes > 1 ? rank_.network_s : rank_.link_s);
  }

  // Tokens to experts (dispatch) and their results back (combine), in `layers` layers.
  void add_exchange(Transfers& sum, double rows, double layers) const {
    const ExpertShape& experts = *shape_.experts;
    const double ranks = layout_.ranks();
    const double local = std::min<double>(ranks, rank_.link_ranks);
    const double nodes = std::ceil(ranks / local);
    const bool is_narrow = device_.arithmetic(formats_.weights.arithmetic) != Arithmetic::f16;
    const double bytes_per_copy =
        shape_.hidden * ((is_narrow ? 1 : activation_bytes) + activation_bytes);
    const double bytes = layers * rows * bytes_per_copy;
    if (layout_.sends_directly) {
      sum.link_bytes += bytes * experts.used * (local - 1) / ranks;
      sum.network_bytes += bytes * experts.used * (ranks - local) / ranks;
    } else {
      const double reached = expected_distinct(ranks, 1 / ranks, experts.used);
      sum.link_bytes += bytes * reached * (local - 1) / local;
      sum.network_bytes += bytes * expected_remote_nodes(experts, nodes);
    }
    sum.latency_s += 2 * layers * (nodes > 1 ? rank_.network_s : rank_.link_s);
  }

  const ModelShape& shape_;
  const Formats& formats_;
  const Layout& layout_;
  const Device& device_;
  Rank rank_;
};

Limit limit_of(const StepCost& cost) {
  if (std::max(cost.transfer_s, cost.latency_s) > cost.work_s) return Limit::interconnect;
  double compute_s = 0, weights_s = 0, cache_s = 0;
  for (const KindCost& kind : cost.kinds) {
    if (kind.compute_s >= kind.memory_s) {
      compute_s += kind.seconds;
      continue;
    }
    const double bytes = kind.weight_bytes + kind.cache_bytes;
    weights_s += kind.seconds * kind.weight_bytes / bytes;
    cache_s += kind.seconds * kind.cache_bytes / bytes;
  }
  if (compute_s >= weights_s && compute_s >= cache_s) return Limit::compute;
  return weights_s >= cache_s ? Limit::weights : Limit::cache;
}

}  // namespace

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::attention_linears:
      return "attention linears";
    case Kind::attention:
      return "attention";
    case Kind::dense_feed_forward:
      return "feed-forward";
    case Kind::shared_experts:
      return "shared experts";
    case Kind::routed_experts:
      return "routed experts";
    case Kind::head:
      return "head";
    case Kind::drafts:
      return "drafts";
  }
  return "";
}

std::string_view name(Limit limit) {
  switch (limit) {
    case Limit::compute:
      return "compute";
    case Limit::weights:
      return "memory (weights)";
    case Limit::cache:
      return "memory (KV cache)";
    case Limit::interconnect:
      return "interconnect";
  }
  return "";
}

double StepCost::flops() const {
  double sum = 0;
  for (const KindCost& kind : kinds) sum += kind.flops;
  return sum;
}

double StepCost::bytes() const {
  double sum = 0;
  for (const KindCost& kind : kinds) sum += kind.weight_bytes + kind.cache_bytes;
  return sum;
}

double expected_distinct(double local, double share, double rows) {
  return local * -std::expm1(rows * std::log1p(-share));
}

double expected_remote_nodes(const ExpertShape& experts, double nodes) {
  if (nodes <= 1) return 0;
  double reached = expected_distinct(nodes, 1 / nodes, experts.used);
  if (experts.groups_used > 0) reached = std::min<double>(reached, experts.groups_used);
  return reached * (nodes - 1) / nodes;
}

StepCost step_cost(const ModelShape& shape, const Formats& formats, const Layout& layout,
                   const Device& device, const Pass& pass) {
  const KindCosts kinds(shape, formats, layout, device);
  const TransferCosts transfers(shape, formats, layout, device);
  StepCost cost;
  cost.kinds = kinds.compute(pass, shape.dense_layers(), shape.expert_layers());
  if (pass.drafts > 0) cost.kinds.push_back(kinds.drafts(pass));
  for (const KindCost& kind : cost.kinds) cost.work_s += kind.seconds;
  const Transfers moved = transfers.compute(pass);
  cost.transfer_s = transfers.seconds(moved);
  cost.latency_s = moved.latency_s;
  cost.seconds = layout.overlaps_transfers
                     ? std::max({cost.work_s, cost.transfer_s, cost.latency_s})
                     : cost.work_s + cost.transfer_s + cost.latency_s;
  cost.limit = limit_of(cost);
  return cost;
}

}  // namespace ridge::planner
