#include <algorithm>

#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// RoPE and store go by token, attention by sequence, KV head and tile of query rows. In a step of
// decode rows only, one thread does all three for its KV head, and the barrier between is saved.
class AttentionStep final : public Step {
 public:
  explicit AttentionStep(const AttentionPlan& plan) : plan_(plan) {}

  std::vector<Value> values() const override {
    std::vector<Value> all;
    if (plan_.rope) all.insert(all.end(), {plan_.rope->q, plan_.rope->k});
    if (plan_.store) all.insert(all.end(), {plan_.store->k, plan_.store->v});
    if (plan_.attention) all.insert(all.end(), {plan_.attention->q, plan_.attention->out});
    std::erase_if(all, [](Value v) { return !v.valid(); });
    return all;
  }

  size_t member_scratch_bytes() const override {
    if (!plan_.attention) return 0;
    const auto& cache = static_cast<const CpuKvCache&>(*plan_.attention->cache);
    return attention_scratch_floats(cache.layout().key_dim, cache.value_stride()) * sizeof(float);
  }

  void run(Run& run, int member) override {
    const bool decode = run.shape.tokens == run.shape.sequences;
    if (plan_.rope && plan_.attention && decode) {
      const int heads = plan_.attention->cache->layout().kv_heads;
      share(run, static_cast<int64_t>(run.shape.sequences) * heads, 1, [&](int64_t item) {
        const auto sequence = static_cast<int>(item / heads);
        const auto head = static_cast<int>(item % heads);
        rotate_group(run, sequence, head);
        store_head(run, sequence, head);
        attend_group(run, member, sequence, head);
      });
      return;
    }
    if (plan_.rope || plan_.store) {
      split_rows(run.shape.tokens, run.team.size(), member, [&](int token) {
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

  int group_heads() const {
    return plan_.attention->heads / plan_.attention->cache->layout().kv_heads;
  }

  void store_head(const Run& run, int token, int head) const {
    const StoreKv& op = *plan_.store;
    const auto& cache = static_cast<const CpuKvCache&>(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const int slot = run.inputs.slots[token];
    const size_t block_at = static_cast<size_t>(slot / layout.block_tokens) * cache.block_stride();
    const float* k = run.arena.at(op.k) + token * run.arena.stride(op.k);
    const float* v = run.arena.at(op.v) + token * run.arena.stride(op.v);
    run.kernels.store_kv(k + static_cast<int64_t>(head) * layout.key_dim,
                         v + static_cast<int64_t>(head) * layout.value_dim,
                         cache.keys(op.layer, head) + block_at,
                         cache.values(op.layer, head) + block_at, slot % layout.block_tokens,
                         layout.block_tokens, layout.key_dim, layout.value_dim,
                         cache.value_stride(), layout.dtype);
  }

  void store(const Run& run, int token) const {
    for (int head = 0; head < plan_.store->cache->layout().kv_heads; ++head) {
      store_head(run, token, head);
    }
  }

  int tiles(const Run& run, int sequence) const {
    const int tokens = run.inputs.query_starts[sequence + 1] - run.inputs.query_starts[sequence];
    return (tokens * group_heads() + attention_rows - 1) / attention_rows;
  }

  void attend(Run& run, int member) {
    const int heads = plan_.attention->cache->layout().kv_heads;
    int64_t items = 0;
    for (int s = 0; s < run.shape.sequences; ++s) items += static_cast<int64_t>(tiles(run, s)) * heads;
    share(run, items, 1, [&](int64_t item) {
      int sequence = 0;
      while (item >= static_cast<int64_t>(tiles(run, sequence)) * heads) {
        item -= static_cast<int64_t>(tiles(run, sequence)) * heads;
        ++sequence;
      }
      attend_tile(run, member, sequence, static_cast<int>(item % heads),
                  static_cast<int>(item / heads));
    });
  }

  void attend_group(Run& run, int member, int sequence, int head) const {
    for (int tile = 0; tile < tiles(run, sequence); ++tile) {
      attend_tile(run, member, sequence, head, tile);
    }
  }

  void attend_tile(Run& run, int member, int sequence, int head, int tile) const {
    const Attention& op = *plan_.attention;
    const auto& cache = static_cast<const CpuKvCache&>(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const int group = group_heads();
    const int first_token = run.inputs.query_starts[sequence];
    const int tokens = run.inputs.query_starts[sequence + 1] - first_token;
    AttentionJob job{};
    job.q_stride = run.arena.stride(op.q);
    job.out_stride = run.arena.stride(op.out);
    job.q = run.arena.at(op.q) + first_token * job.q_stride +
            static_cast<int64_t>(head) * group * layout.key_dim;
    job.out = run.arena.at(op.out) + first_token * job.out_stride +
              static_cast<int64_t>(head) * group * layout.value_dim;
    job.group_heads = group;
    job.first_row = tile * attention_rows;
    job.rows = std::min(attention_rows, tokens * group - job.first_row);
    job.first_position = run.inputs.context_lengths[sequence] - tokens;
    job.block_table = run.inputs.block_tables +
                      static_cast<int64_t>(sequence) * run.inputs.blocks_per_sequence;
    job.keys = cache.keys(op.layer, head);
    job.values = cache.values(op.layer, head);
    job.block_stride = static_cast<int64_t>(cache.block_stride());
    job.block_tokens = layout.block_tokens;
    job.key_dim = layout.key_dim;
    job.value_dim = layout.value_dim;
    job.value_stride = cache.value_stride();
    job.scale = op.scale;
    job.window = op.window;
    job.soft_cap = op.soft_cap;
    job.sinks = op.sinks == nullptr
                    ? nullptr
                    : static_cast<const CpuWeight*>(op.sinks)->values() + head * group;
    job.scratch = reinterpret_cast<float*>(run.member_scratch[member].data());
    run.kernels.attention(job, layout.dtype);
  }

  const AttentionPlan plan_;
};

}  // namespace

std::unique_ptr<Step> make_attention_step(const AttentionPlan& plan) {
  return std::make_unique<AttentionStep>(plan);
}

}  // namespace ridge::backend::cpu
