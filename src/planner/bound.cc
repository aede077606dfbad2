#include "planner/bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace ridge::planner {
namespace {

constexpr int most_devices = 1024;
constexpr int most_batch = 1 << 20;

double devices_of(const Layout& layout, const Device& device) {
  return static_cast<double>(layout.ranks()) / device.ranks;
}

bool stands_alone(const Device& device) {
  return device.link_gbps.value == 0 && device.network_gbps.value == 0;
}

Pass prefill_pass(double prompt_tokens, double cached_tokens, double sequences, int replicas) {
  const double rows = prompt_tokens - cached_tokens;
  return {.sequences = sequences,
          .rows = rows,
          .context = cached_tokens + (rows + 1) / 2,  // row i sees cached + i + 1
          .cache_tokens = prompt_tokens,
          .logits_rows = 1,
          .decodes = false,
          .active_replicas = replicas};
}

// The ways to lay a model on so many ranks, fewest ranks of a replica first.
std::vector<Layout> layouts(const Question& question, const Device& device, int devices) {
  const int ranks = devices * device.ranks;
  std::vector<Layout> list;
  for (int t = 1; t <= ranks; t *= 2) {
    if (ranks % t != 0) continue;
    if (question.tensor_parallel > 0 && question.tensor_parallel != t) continue;
    if (t > question.shape->heads) continue;
    Layout layout{.tensor_parallel = t,
                  .replicas = ranks / t,
                  .spreads_experts = question.shape->experts.has_value() && ranks > 1,
                  .sends_directly = question.sends_directly,
                  .overlaps_transfers = question.overlaps_transfers};
    list.push_back(layout);
  }
  return list;
}

std::string no_links(const Device& device) {
  if (device.link_gbps.value == 0) return "nothing links these devices";
  return fmt::format("nothing links more than {} of these devices", device.link_devices);
}

// Why layouts() has none, which is so only of a tensor_parallel that was asked for.
std::string why_no_layout(const Question& question, const Device& device, int devices) {
  const int t = question.tensor_parallel;
  const int ranks = devices * device.ranks;
  if (!std::has_single_bit(static_cast<unsigned>(t))) {
    return fmt::format("{} ranks cannot share a layer: 1, 2, 4, 8, ... are expected", t);
  }
  if (t > question.shape->heads) {
    return fmt::format("{} ranks cannot share {} heads", t, question.shape->heads);
  }
  if (t > ranks && stands_alone(device)) return no_links(device);
  return fmt::format("replicas of {} ranks cannot be made of {}", t, ranks);
}

class Planner {
 public:
  Planner(const Question& question, const Device& device, Layout layout)
      : question_(question), device_(device), shape_(*question.shape), layout_(layout) {}

  // Nothing where it does not fit, is too slow, or has no way for what ranks send.
  std::optional<Plan> plan(std::string& why_not) const {
    if (!can_send(layout_, device_)) {
      why_not = no_links(device_);
      return std::nullopt;
    }
    Plan plan;
    plan.devices = static_cast<int>(devices_of(layout_, device_));
    plan.layout = layout_;
    plan.memory =
        memory_use(shape_, question_.formats, layout_, device_, question_.speculation.drafts > 0);
    const double room =
        plan.memory.largest_batch(question_.prompt_tokens + question_.output_tokens);
    plan.largest_batch = room * layout_.replicas;
    const double asked = std::ceil(static_cast<double>(question_.batch) / layout_.replicas);
    if (room < std::max(1.0, asked)) {
      why_not = plan.memory.usable_bytes <= plan.memory.weight_bytes
                    ? "the weights do not fit"
                    : fmt::format("no room for the KV cache of {} sequences",
                                  std::max(1, question_.batch));
      return std::nullopt;
    }
    double batch = question_.batch > 0 ? static_cast<double>(question_.batch) / layout_.replicas
                                       : std::min<double>(room, most_batch);
    plan.batch_limit = question_.batch > 0 ? BatchLimit::asked : BatchLimit::memory;
    if (question_.tpot_ms > 0 && decode(batch).tpot_ms > question_.tpot_ms) {
      batch = question_.batch > 0 ? 0 : largest_in_time(batch);
      plan.batch_limit = BatchLimit::tpot;
      if (batch < 1) {
        why_not = fmt::format("a token takes longer than {:g} ms", question_.tpot_ms);
        return std::nullopt;
      }
    }
    fill(plan, batch);
    return plan;
  }

 private:
  DecodeBound decode(double batch) const {
    return decode_bound(shape_, question_.formats, layout_, device_, batch,
                        question_.context_tokens(), question_.speculation);
  }

  // The largest whole batch of a replica, below `most`, that keeps the time of a token; 0: none.
  double largest_in_time(double most) const {
    double fits = 0;
    double fails = most;
    while (fails - fits > 1) {
      const double middle = std::floor((fits + fails) / 2);
      (decode(middle).tpot_ms <= question_.tpot_ms ? fits : fails) = middle;
    }
    return fits;
  }

  void fill(Plan& plan, double batch) const {
    const double cached = question_.cached_share * question_.prompt_tokens;
    plan.batch = batch * layout_.replicas;
    plan.prefill = prefill_bound(shape_, question_.formats, layout_, device_,
                                 question_.prompt_tokens, cached, question_.prefill_batch_tokens);
    plan.mixed =
        mixed_bound(shape_, question_.formats, layout_, device_, batch, question_.prompt_tokens,
                    cached, question_.output_tokens, question_.speculation);
    plan.decode = plan.mixed.decode;
    plan.ttft_ms =
        ttft_bound_ms(shape_, question_.formats, layout_, device_, question_.prompt_tokens, cached);
  }

  const Question& question_;
  const Device& device_;
  const ModelShape& shape_;
  Layout layout_;
};

}  // namespace

DecodeBound decode_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                         const Device& device, double batch, double context,
                         const Speculation& speculation) {
  const double rows = 1.0 + speculation.drafts;
  const Pass pass{.sequences = batch,
                  .rows = rows,
                  .context = context + (rows + 1) / 2,
                  .cache_tokens = context,
                  .logits_rows = rows,
                  .drafts = speculation.drafts,
                  .active_replicas = layout.replicas};
  DecodeBound bound{.batch = batch, .step = step_cost(shape, formats, layout, device, pass)};
  bound.tpot_ms = 1e3 * bound.step.seconds / speculation.accepted;
  bound.tokens_per_second =
      batch * layout.replicas / (bound.tpot_ms * 1e-3) / devices_of(layout, device);
  return bound;
}

PrefillBound prefill_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                           const Device& device, double prompt_tokens, double cached_tokens,
                           double batch_tokens) {
  const double sequences = batch_tokens / (prompt_tokens - cached_tokens);
  const Pass pass = prefill_pass(prompt_tokens, cached_tokens, sequences, layout.replicas);
  PrefillBound bound{.step = step_cost(shape, formats, layout, device, pass)};
  bound.tokens_per_second =
      sequences * prompt_tokens * layout.replicas / bound.step.seconds / devices_of(layout, device);
  return bound;
}

double ttft_bound_ms(const ModelShape& shape, const Formats& formats, const Layout& layout,
                     const Device& device, double prompt_tokens, double cached_tokens) {
  const Pass pass = prefill_pass(prompt_tokens, cached_tokens, /*sequences=*/1, /*replicas=*/1);
  return 1e3 * step_cost(shape, formats, layout, device, pass).seconds;
}

MixedBound mixed_bound(const ModelShape& shape, const Formats& formats, const Layout& layout,
                       const Device& device, double batch, double prompt_tokens,
                       double cached_tokens, double output_tokens, const Speculation& speculation) {
  MixedBound bound;
  bound.decode = decode_bound(shape, formats, layout, device, batch,
                              prompt_tokens + output_tokens / 2, speculation);
  // All prompts of the batch are read together: none of them could share more.
  const double computed = prompt_tokens - cached_tokens;
  bound.prefill = prefill_bound(shape, formats, layout, device, prompt_tokens, cached_tokens,
                                std::max(1.0, batch) * computed);
  // Of one request of each of the batch's places, one after the other.
  const double devices = devices_of(layout, device);
  const double requests = batch * layout.replicas;
  const double decode_s = output_tokens * requests / (bound.decode.tokens_per_second * devices);
  const double prefill_s = prompt_tokens * requests / (bound.prefill.tokens_per_second * devices);
  const double seconds = decode_s + prefill_s;
  bound.output_tokens_per_second = output_tokens * requests / seconds / devices;
  bound.total_tokens_per_second = (output_tokens + prompt_tokens) * requests / seconds / devices;
  bound.prefill_share = prefill_s / seconds;
  return bound;
}

std::string_view name(BatchLimit limit) {
  switch (limit) {
    case BatchLimit::memory:
      return "memory";
    case BatchLimit::tpot:
      return "time of a token";
    case BatchLimit::asked:
      return "asked for";
  }
  return "";
}

std::optional<Plan> make_plan(const Question& question, const Device& device,
                              std::string& why_not) {
  const int first = question.devices > 0 ? question.devices : 1;
  const int last = question.devices > 0 ? question.devices : most_devices;
  for (int devices = first; devices <= last; devices *= 2) {
    std::optional<Plan> best;
    const std::vector<Layout> list = layouts(question, device, devices);
    if (list.empty()) why_not = why_no_layout(question, device, devices);
    for (const Layout& layout : list) {
      const auto plan = Planner(question, device, layout).plan(why_not);
      if (!plan) continue;
      // Of those that are as fast, the one whose replicas have fewer ranks.
      constexpr double clearly = 1 + 1e-9;
      if (!best ||
          plan->mixed.output_tokens_per_second > best->mixed.output_tokens_per_second * clearly) {
        best = plan;
      }
    }
    if (best) return best;
    if (stands_alone(device)) break;
  }
  return std::nullopt;
}

}  // namespace ridge::planner
