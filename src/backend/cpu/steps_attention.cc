#include <algorithm>

#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Most (sequence, KV head) pairs whose contexts are split into ranges; more keep a team busy as
// they are.
constexpr int most_split_groups = 64;
// A range's partial result costs as much as a few keys, so that hundreds of them make it free.
constexpr int least_range_keys = 256;
constexpr int latent_ranges_per_member = 4;

// RoPE and store go by token, attention by sequence, KV head and tile of query rows. A sequence
// with few rows over a long context goes by ranges of the context instead, and whoever ends the
// last range merges them: the split depends on the step's shape and the team's size alone, and so do the
// results. In a step of decode rows over short contexts, one thread does all for its KV head, and the barrier
// between is saved.
class AttentionStep final : public Step {
 public:
  AttentionStep(const AttentionPlan& plan, const StepLimits& limits, const KernelTable& kernels)
      : plan_(plan) {
    if (!plan_.attention) return;
    most_rows_ = is_latent() ? latent_attention_rows
                             : kernels.attention_rows[static_cast<int>(layout().dtype)];
    group_items_ = std::min(limits.sequences * layout().kv_heads, most_split_groups);
    ranges_done_ = std::make_unique<std::atomic<int>[]>(group_items_);
  }

  std::vector<Value> values() const override {
    std::vector<Value> all;
    if (plan_.rope) all.insert(all.end(), {plan_.rope->q, plan_.rope->k});
    if (plan_.store) all.insert(all.end(), {plan_.store->k, plan_.store->v});
    if (plan_.attention) {
      all.insert(all.end(), {plan_.attention->q, plan_.q_latent, plan_.attention->out});
    }
    std::erase_if(all, [](Value v) { return !v.valid(); });
    return all;
  }

  size_t member_scratch_bytes() const override {
    if (!plan_.attention) return 0;
    // Kernels lay it out for the most rows that they take of any job.
    const int rows = std::max(most_rows_, attention_rows);
    return attention_scratch_bytes(cache().geometry(), rows, is_latent());
  }

  size_t shared_scratch_bytes() const override {
    return plan_.attention ? group_items_ * group_partial_floats() * sizeof(float) : 0;
  }

  void run(Run& run, int member) override {
    if (plan_.rope && plan_.attention && is_short_decode(run)) {
      share(run, static_cast<int64_t>(run.shape.sequences) * layout().kv_heads, 1,
            [&](int64_t item) {
              const auto sequence = static_cast<int>(item / layout().kv_heads);
              const auto head = static_cast<int>(item % layout().kv_heads);
              rotate_group(run, sequence, head);
              store_head(run, sequence, head);
              attend_tile(run, member, sequence, head, 0);
            });
      return;
    }
    if (plan_.rope || plan_.store) {
      split_rows(run.shape.tokens, run.members, member, [&](int token) {
        if (plan_.rope) rotate(run, token);
        if (plan_.store) store(run, token);
      });
    }
    if (!plan_.attention) return;
    if (plan_.rope || plan_.store) run.team.barrier();
    attend(run, member);
  }

 private:
  void rotate_heads(const Run& run, Value value, int token, int first, int count) const {
    if (!value.valid()) return;
    const Rope& rope = *plan_.rope;
    float* row = run.arena.at(value) + token * run.arena.stride(value);
    for (int head = first; head < first + count; ++head) {
      run.kernels.rope(row + static_cast<int64_t>(head) * rope.head_dim, plan_.angles->row(token),
                       plan_.angles->rotary_dim(), rope.table.pairs);
    }
  }

  void rotate(const Run& run, int token) const {
    const Rope& rope = *plan_.rope;
    rotate_heads(run, rope.q, token, 0, rope.q.columns / rope.head_dim);
    if (rope.k.valid()) rotate_heads(run, rope.k, token, 0, rope.k.columns / rope.head_dim);
  }

  void rotate_group(const Run& run, int token, int kv_head) const {
    const int group = group_heads();
    rotate_heads(run, plan_.rope->q, token, kv_head * group, group);
    rotate_heads(run, plan_.rope->k, token, kv_head, 1);
  }

  const CpuKvCache& cache() const {
    return static_cast<const CpuKvCache&>(*plan_.attention->cache);
  }
  const KvCacheLayout& layout() const { return cache().layout(); }
  bool is_latent() const { return plan_.q_latent.valid(); }
  int group_heads() const { return plan_.attention->heads / layout().kv_heads; }

  void store_head(const Run& run, int token, int head) const {
    const StoreKv& op = *plan_.store;
    const auto& cache = static_cast<const CpuKvCache&>(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const int slot = run.inputs.slots[token];
    const float* k = run.arena.at(op.k) + token * run.arena.stride(op.k);
    const float* v = run.arena.at(op.v) + token * run.arena.stride(op.v);
    std::byte* block =
        cache.head(op.layer, head) + slot / layout.block_tokens * cache.geometry().block_stride;
    run.kernels.store_kv(k + static_cast<int64_t>(head) * layout.key_dim,
                         v + static_cast<int64_t>(head) * layout.value_dim, block,
                         slot % layout.block_tokens, cache.geometry());
  }

  void store(const Run& run, int token) const {
    for (int head = 0; head < plan_.store->cache->layout().kv_heads; ++head) {
      store_head(run, token, head);
    }
  }

  // How the rows of one sequence and one KV head are divided: by tiles of rows or by ranges of
  // keys.
  struct Division {
    int tiles = 1;
    int ranges = 1;
    int first_key = 0;   // that a row can see, rounded down to 16
    int range_keys = 0;  // a multiple of attention_chunk, or all

    int jobs() const { return tiles * ranges; }
  };

  int tokens_of(const Run& run, int sequence) const {
    return run.inputs.query_starts[sequence + 1] - run.inputs.query_starts[sequence];
  }

  // What a range leaves of latents is large, 512 floats for each head, so that more ranges than keep the members
  // busy cost something. It is the team's size that counts: how many of it take part changes no result.
  int most_ranges(const Run& run) const {
    return is_latent() ? std::min(attention_ranges, latent_ranges_per_member * run.team.size())
                       : attention_ranges;
  }

  Division divide(const Run& run, int sequence) const {
    const int tokens = tokens_of(run, sequence);
    const int rows = tokens * group_heads();
    const int context = run.inputs.context_lengths[sequence];
    const int window = plan_.attention->window;
    Division d;
    d.tiles = (rows + most_rows_ - 1) / most_rows_;
    d.range_keys = context;
    if (plan_.forms && plan_.forms->expands(run, sequence)) {
      d.tiles = 0;
      return d;
    }
    if (run.batch_invariant) return d;
    if (rows > partial_rows || run.shape.sequences * layout().kv_heads > most_split_groups)
      return d;
    if (window > 0) d.first_key = std::max(0, context - tokens + 1 - window) / 16 * 16;
    const int keys = context - d.first_key;
    d.ranges = std::clamp((keys + least_range_keys - 1) / least_range_keys, 1, most_ranges(run));
    if (d.ranges == 1) return d;
    d.range_keys = ((keys + d.ranges - 1) / d.ranges + attention_chunk - 1) / attention_chunk *
                   attention_chunk;
    d.ranges = (keys + d.range_keys - 1) / d.range_keys;
    return d;
  }

  bool is_short_decode(const Run& run) const {
    if (run.shape.tokens != run.shape.sequences) return false;
    for (int s = 0; s < run.shape.sequences; ++s) {
      if (divide(run, s).jobs() != 1) return false;
    }
    return true;
  }

  void attend(Run& run, int member) {
    const int heads = layout().kv_heads;
    int64_t items = 0;
    for (int s = 0; s < run.shape.sequences; ++s) {
      items += static_cast<int64_t>(divide(run, s).jobs()) * heads;
    }
    share(run, items, 1, [&](int64_t item) {
      // Backwards: the last tiles see the longest contexts, and what is short fills the gaps at the
      // end.
      int64_t rest = items - 1 - item;
      int sequence = 0;
      Division division = divide(run, 0);
      while (rest >= static_cast<int64_t>(division.jobs()) * heads) {
        rest -= static_cast<int64_t>(division.jobs()) * heads;
        division = divide(run, ++sequence);
      }
      const auto head = static_cast<int>(rest % heads);
      const auto job = static_cast<int>(rest / heads);
      if (division.ranges == 1) {
        attend_tile(run, member, sequence, head, job);
      } else {
        attend_range(run, member, sequence, head, job, division);
      }
    });
  }

  void attend_tile(const Run& run, int member, int sequence, int head, int tile) const {
    AttentionJob job = job_of(run, member, sequence, head);
    job.first_row = tile * most_rows_;
    job.rows = std::min(most_rows_, job.rows - job.first_row);
    run.kernels.attention(job);
  }

  size_t group_partial_floats() const {
    return static_cast<size_t>(attention_ranges) * partial_rows *
           partial_floats(cache().geometry());
  }

  void attend_range(const Run& run, int member, int sequence, int head, int range,
                    const Division& division) {
    const int group = sequence * layout().kv_heads + head;
    RIDGE_ASSERT(group < group_items_);
    float* partials = reinterpret_cast<float*>(run.shared_scratch) + group * group_partial_floats();
    AttentionJob job = job_of(run, member, sequence, head);
    job.range_first = division.first_key + range * division.range_keys;
    job.range_end = std::min(job.range_end, job.range_first + division.range_keys);
    job.partial =
        partials + static_cast<int64_t>(range) * partial_rows * partial_floats(cache().geometry());
    run.kernels.attention(job);
    std::atomic<int>& done = ranges_done_[group];
    if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < division.ranges) return;
    done.store(0, std::memory_order_relaxed);
    run.kernels.merge_attention(job, partials, division.ranges);
  }

  // All rows of a sequence over its whole context.
  AttentionJob job_of(const Run& run, int member, int sequence, int head) const {
    const Attention& op = *plan_.attention;
    const KvGeometry& kv = cache().geometry();
    const int group = group_heads();
    const int first_token = run.inputs.query_starts[sequence];
    AttentionJob job{};
    job.q_stride = run.arena.stride(op.q);
    job.out_stride = run.arena.stride(op.out);
    job.q = run.arena.at(op.q) + first_token * job.q_stride +
            static_cast<int64_t>(head) * group * kv.key_dim;
    job.out = run.arena.at(op.out) + first_token * job.out_stride +
              static_cast<int64_t>(head) * group * kv.value_dim;
    if (is_latent()) {
      job.q_latent_stride = run.arena.stride(plan_.q_latent);
      job.q_latent = run.arena.at(plan_.q_latent) + first_token * job.q_latent_stride;
    }
    job.group_heads = group;
    job.rows = tokens_of(run, sequence) * group;
    job.range_end = run.inputs.context_lengths[sequence];
    job.first_position = job.range_end - tokens_of(run, sequence);
    job.block_table =
        run.inputs.block_tables + static_cast<int64_t>(sequence) * run.inputs.blocks_per_sequence;
    job.cache = cache().head(op.layer, head);
    job.kv = &kv;
    job.scale = op.scale;
    job.window = op.window;
    job.soft_cap = op.soft_cap;
    job.sinks = op.sinks == nullptr
                    ? nullptr
                    : static_cast<const CpuWeight*>(op.sinks)->values() + head * group;
    job.batch_invariant = run.batch_invariant;
    job.scratch = run.member_scratch[member].data();
    return job;
  }

  const AttentionPlan plan_;
  int most_rows_ = 0;    // of a job
  int group_items_ = 0;  // (sequence, KV head) pairs of a step that may be split
  std::unique_ptr<std::atomic<int>[]> ranges_done_;  // [group_items], zero between steps
};

}  // namespace

std::unique_ptr<Step> make_attention_step(const AttentionPlan& plan, const StepLimits& limits,
                                          const KernelTable& kernels) {
  return std::make_unique<AttentionStep>(plan, limits, kernels);
}

}  // namespace ridge::backend::cpu
