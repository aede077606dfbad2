#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cpu/steps.h"
#include "tensor/float_formats.h"

// Latent attention expanded: what the schedule makes of head_linear → RoPE → store_latent → mla_attention → head_linear
// for sequences with many tokens (latent_forms.h). A range of the context at a time,
//
//   latents ─► both operands of products ─► every head's keys and values ─► attention of ordinary heads
//
// and rows go on from one range to the next where they stopped.
namespace ridge::backend::cpu {

namespace {

// Keys and values of all heads for a range: they are read once for each tile of rows, and should
// come from a cache that all threads share.
constexpr int64_t expansion_bytes = int64_t{8} << 20;
// With more heads than that is enough for: each range has the rows' states read and written.
constexpr int64_t least_range_blocks = 4;
// Of a block of made keys and values: as many as attention takes at once.
constexpr int expanded_block_tokens = attention_chunk;
constexpr int latent_part_tokens = 16;
constexpr int parts_of_block = expanded_block_tokens / latent_part_tokens;

class ExpandedLatentStep final : public Step {
 public:
  ExpandedLatentStep(const ExpandedLatentPlan& plan, const StepLimits& limits,
                     const KernelTable& kernels)
      : plan_(plan),
        shape_(plan.forms->shape()),
        kernels_(plan.forms->kernels()),
        geometry_(kv_geometry({.layers = 1,
                               .block_tokens = expanded_block_tokens,
                               .kv_heads = shape_.heads,
                               .key_dim = shape_.nope + shape_.rotary,
                               .value_dim = shape_.value,
                               .dtype = kernels_.dtype})),
        element_(static_cast<int64_t>(row_bytes(kernels_.dtype, 1))),
        group_(kv_group(kernels_.dtype)),
        tile_rows_(kernels.attention_rows[static_cast<int>(kernels_.dtype)]),
        max_tokens_(limits.tokens) {
    const int64_t most_blocks = (int64_t{limits.blocks_per_sequence} * cache().layout().block_tokens +
                                 expanded_block_tokens - 1) /
                                expanded_block_tokens;
    range_blocks_ = std::min(
        std::max(expansion_bytes / geometry_.block_stride, least_range_blocks), most_blocks);
    is_one_range_ = range_blocks_ == most_blocks;
    blocks_.resize(range_blocks_);
    std::iota(blocks_.begin(), blocks_.end(), 0);
    weights_ = Memory(shape_.heads * (key_weight_bytes() + value_weight_bytes()));
  }

  std::vector<Value> values() const override { return {plan_.q_nope, plan_.q_rotary, plan_.out}; }

  size_t shared_scratch_bytes() const override {
    return range_blocks_ * (parts_of_block * part_bytes() + geometry_.block_stride) +
           (is_one_range_ ? 0 : row_state_bytes() * shape_.heads * max_tokens_);
  }
  size_t member_scratch_bytes() const override {
    return std::max(attention_scratch_bytes(geometry_, std::max(tile_rows_, attention_rows), false),
                    attention_scratch_bytes(cache().geometry(), 1, false));
  }

  void run(Run& run, int member) override {
    Turn turn{run, member};
    for (int s = 0; s < run.shape.sequences; ++s) {
      if (plan_.forms->expands(run, s)) attend(turn, s);
    }
  }

 private:
  // One member's way through the phases of a run. Members take items by one counter: behind the items
  // of a phase each has drawn once in vain, and the next phase's numbers begin after that.
  struct Turn {
    Run& run;
    int member;
    int64_t base = 0;
  };
  template <typename Fn>
  void phase(Turn& turn, int64_t items, Fn fn) const {
    std::atomic<int64_t>& next = turn.run.counters[index];
    for (int64_t i = next.fetch_add(1) - turn.base; i < items; i = next.fetch_add(1) - turn.base) {
      fn(i);
    }
    turn.base += items + turn.run.members;
    turn.run.team.barrier();
  }

  const CpuKvCache& cache() const { return static_cast<const CpuKvCache&>(*plan_.cache); }
  int64_t row_weight_bytes() const { return shape_.rank * element_; }
  int64_t key_weight_bytes() const { return shape_.nope * row_weight_bytes(); }
  int64_t value_weight_bytes() const { return geometry_.value_stride * row_weight_bytes(); }
  // [nope][rank]
  std::byte* key_weights(int head) const { return weights_.data() + head * key_weight_bytes(); }
  // [value / 16][rank / group][16][group]
  std::byte* value_weights(int head) const {
    return weights_.data() + shape_.heads * key_weight_bytes() + head * value_weight_bytes();
  }

  // A part's latents as lanes and as rows, and its rotary keys.
  int64_t latent_bytes() const { return latent_part_tokens * row_weight_bytes(); }
  int64_t rotary_bytes() const { return latent_part_tokens * shape_.rotary * element_; }
  int64_t part_bytes() const { return 2 * latent_bytes() + rotary_bytes(); }
  size_t row_state_bytes() const { return partial_floats(geometry_) * sizeof(float); }

  // The blocks, then lanes of all parts, their rows, their rotary keys, and the rows' states.
  struct Scratch {
    std::byte *blocks, *lanes, *rows, *rotary;
    float* states;  // [heads][tokens]
  };
  Scratch scratch(const Run& run) const {
    const int64_t parts = parts_of_block * range_blocks_;
    Scratch s{};
    s.blocks = run.shared_scratch;
    s.lanes = s.blocks + range_blocks_ * geometry_.block_stride;
    s.rows = s.lanes + parts * latent_bytes();
    s.rotary = s.rows + parts * latent_bytes();
    s.states = reinterpret_cast<float*>(s.rotary + parts * rotary_bytes());
    return s;
  }

  // The first sequence that is expanded has the weights made: where none ever is, they cost nothing.
  void make_weights(Turn& turn) {
    if (has_weights_) return;
    phase(turn, shape_.heads, [&](int64_t head) { make_weights(static_cast<int>(head)); });
    if (turn.member == 0) has_weights_ = true;
    turn.run.team.barrier();
  }

  void make_weights(int head) const {
    std::vector<float> row(std::max(shape_.rank, shape_.nope));
    std::byte* keys = key_weights(head);
    for (int k = 0; k < shape_.rank; ++k) {
      plan_.key_up->gather(k, row.data(), head);
      for (int d = 0; d < shape_.nope; ++d) put(row[d], keys + d * row_weight_bytes() + k * element_);
    }
    std::byte* values = value_weights(head);
    for (int d = 0; d < shape_.value; ++d) {
      plan_.value_up->gather(d, row.data(), head);
      std::byte* strip = values + d / 16 * latent_bytes();
      for (int k = 0; k < shape_.rank; ++k) {
        put(row[k], strip + ((k / group_ * 16 + d % 16) * group_ + k % group_) * element_);
      }
    }
  }
  void put(float x, std::byte* to) const {
    if (kernels_.dtype == DType::f32) {
      std::memcpy(to, &x, sizeof x);
    } else {
      const uint16_t bits = f32_to_bf16(x);
      std::memcpy(to, &bits, sizeof bits);
    }
  }

  void attend(Turn& turn, int sequence) {
    make_weights(turn);
    const int context = turn.run.inputs.context_lengths[sequence];
    const auto range_tokens = static_cast<int>(range_blocks_ * expanded_block_tokens);
    for (int first = 0; first < context; first += range_tokens) {
      const Range range{sequence, first, std::min(context, first + range_tokens)};
      const int parts = (range.end - first + latent_part_tokens - 1) / latent_part_tokens;
      const int blocks = (range.end - first + expanded_block_tokens - 1) / expanded_block_tokens;
      phase(turn, parts, [&](int64_t part) { take(turn, range, static_cast<int>(part)); });
      phase(turn, static_cast<int64_t>(blocks) * shape_.heads, [&](int64_t i) {
        // A head's weights stay in the second-level cache while the blocks pass.
        expand(turn, static_cast<int>(i / blocks), static_cast<int>(i % blocks), parts);
      });
      const int tokens = tokens_of(turn.run, sequence);
      const int tiles = (tokens + tile_rows_ - 1) / tile_rows_;
      phase(turn, static_cast<int64_t>(tiles) * shape_.heads, [&](int64_t i) {
        attend_tile(turn, range, static_cast<int>(i / tiles), static_cast<int>(i % tiles));
      });
    }
  }

  // Keys [first, end) of a sequence.
  struct Range {
    int sequence, first, end;
  };
  static int tokens_of(const Run& run, int sequence) {
    return run.inputs.query_starts[sequence + 1] - run.inputs.query_starts[sequence];
  }

  void take(const Turn& turn, const Range& range, int part) const {
    const Run& run = turn.run;
    const Scratch s = scratch(run);
    const KvGeometry& kv = cache().geometry();
    const int key = range.first + part * latent_part_tokens;
    const int32_t* table = run.inputs.block_tables +
                           static_cast<int64_t>(range.sequence) * run.inputs.blocks_per_sequence;
    kernels_.take({.block = cache().head(plan_.layer, 0) +
                            table[key / kv.block_tokens] * kv.block_stride,
                   .offset = key % kv.block_tokens,
                   .lanes = s.lanes + part * latent_bytes(),
                   .rows = s.rows + part * latent_bytes(),
                   .rotary = s.rotary + part * rotary_bytes()},
                  kv, reinterpret_cast<float*>(run.member_scratch[turn.member].data()));
  }

  void expand(const Turn& turn, int head, int block, int parts) const {
    const Scratch s = scratch(turn.run);
    const int first = block * parts_of_block;
    const int some = std::min(parts_of_block, parts - first);
    std::byte* to = s.blocks + block * geometry_.block_stride + head * geometry_.head_bytes;
    const int64_t line = latent_part_tokens * group_ * element_;  // of 16 keys' group of dimensions
    const int64_t key_step = parts_of_block * line;
    kernels_.multiply({.lanes = s.lanes + first * latent_bytes(),
                       .vectors = some,
                       .rows = key_weights(head),
                       .count = shape_.nope,
                       .rank = shape_.rank,
                       .out = to,
                       .out_step = key_step});
    kernels_.multiply({.lanes = value_weights(head),
                       .vectors = geometry_.value_stride / 16,
                       .rows = s.rows + first * latent_bytes(),
                       .count = some * latent_part_tokens,
                       .rank = shape_.rank,
                       .out = to + geometry_.values_at,
                       .out_step = geometry_.value_stride * group_ * element_});
    const int groups = shape_.rotary / group_;
    std::byte* rotary = to + shape_.nope / group_ * key_step;
    for (int part = 0; part < some; ++part) {
      const std::byte* from = s.rotary + (first + part) * rotary_bytes();
      for (int g = 0; g < groups; ++g) {
        std::memcpy(rotary + g * key_step + part * line, from + g * line, line);
      }
    }
  }

  // Tokens are counted from the range's first key, for that is where the made blocks begin.
  void attend_tile(const Turn& turn, const Range& range, int head, int tile) const {
    const Run& run = turn.run;
    const int tokens = tokens_of(run, range.sequence);
    const int first_token = run.inputs.query_starts[range.sequence];
    const int context = run.inputs.context_lengths[range.sequence];
    AttentionJob job{};
    job.first_row = tile * tile_rows_;
    job.rows = std::min(tile_rows_, tokens - job.first_row);
    job.first_position = context - tokens - range.first;
    const int last_position = job.first_position + job.first_row + job.rows - 1;
    if (last_position < 0) return;  // has seen all
    const int keys = range.end - range.first;
    job.q_stride = run.arena.stride(plan_.q_nope);
    job.q = run.arena.at(plan_.q_nope) + first_token * job.q_stride + head * shape_.nope;
    job.q_dims = shape_.nope;
    job.q_rest_stride = run.arena.stride(plan_.q_rotary);
    job.q_rest = run.arena.at(plan_.q_rotary) + first_token * job.q_rest_stride + head * shape_.rotary;
    job.out_stride = run.arena.stride(plan_.out);
    job.out = run.arena.at(plan_.out) + first_token * job.out_stride + head * shape_.value;
    job.group_heads = 1;
    job.range_end = keys;
    job.block_table = blocks_.data();
    const Scratch s = scratch(run);
    job.cache = s.blocks + head * geometry_.head_bytes;
    job.kv = &geometry_;
    job.scale = plan_.scale;
    job.scratch = run.member_scratch[turn.member].data();
    float* state = s.states + (static_cast<int64_t>(head) * tokens + job.first_row) *
                                  partial_floats(geometry_);
    if (range.first > 0) job.resumed = state;
    if (last_position >= keys) job.partial = state;
    run.kernels.attention(job);
  }

  const ExpandedLatentPlan plan_;
  const LatentShape shape_;
  const LatentKernels kernels_;
  const KvGeometry geometry_;  // of made keys and values
  const int64_t element_;      // bytes
  const int group_;
  const int tile_rows_;
  const int max_tokens_;
  int64_t range_blocks_ = 0;
  bool is_one_range_ = false;
  std::vector<int32_t> blocks_;  // a block table: 0, 1, …
  Memory weights_;
  bool has_weights_ = false;
};

}  // namespace

std::unique_ptr<Step> make_expanded_latent_step(const ExpandedLatentPlan& plan,
                                                const StepLimits& limits,
                                                const KernelTable& kernels) {
  return std::make_unique<ExpandedLatentStep>(plan, limits, kernels);
}

}  // namespace ridge::backend::cpu
