#include <numeric>

#include "backend/ascend/kernel_test.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

using AttentionKernel = KernelTest;

struct AttentionCase {
  std::string name;
  uint32_t heads, kv_heads, key_dim, value_dim, block_tokens;
  std::vector<uint32_t> queries;   // tokens of each sequence in this step
  std::vector<uint32_t> contexts;  // and in the cache, these included
  uint32_t window = 0;
  float soft_cap = 0;
  bool sinks = false;
};

const std::vector<AttentionCase> attention_cases = {
    {"decode of one head", 1, 1, 64, 64, 16, {1}, {5}},
    {"decode of grouped heads", 9, 3, 64, 64, 16, {1, 1, 1}, {1, 130, 300}},
    {"heads of 80", 4, 4, 80, 80, 16, {1, 1}, {33, 17}},
    {"many heads of 128 for one", 16, 2, 128, 128, 64, {1, 1}, {257, 128}},
    {"a prompt", 4, 2, 32, 32, 4, {70}, {70}},
    {"chunks beside decode", 6, 2, 64, 64, 16, {40, 1, 9}, {150, 64, 9}},
    {"heads of 256 with a soft cap", 4, 2, 256, 256, 16, {1, 12}, {140, 30}, 0, 2.0f},
    {"keys wider than values", 4, 2, 144, 64, 16, {1, 3}, {40, 9}},
    {"a window in a prompt", 4, 2, 32, 32, 16, {70, 1}, {300, 200}, 37},
    {"a wide window, a soft cap and sinks", 6, 2, 64, 64, 16, {40, 1, 3}, {250, 300, 9}, 150, 5.0f,
     true},
    {"sinks of 80 heads for one", 80, 1, 16, 16, 16, {1, 2}, {150, 20}, 0, 0.0f, true},
};

// The step's sequences over a cache of scattered blocks.
class PagedRun {
 public:
  PagedRun(const std::vector<uint32_t>& queries, const std::vector<uint32_t>& contexts,
           uint32_t block_tokens, std::mt19937& random)
      : block_tokens_(block_tokens) {
    for (const uint32_t context : contexts) {
      table_blocks_ = std::max(table_blocks_, (context + block_tokens - 1) / block_tokens);
    }
    starts_.push_back(0);
    for (size_t s = 0; s < queries.size(); ++s) {
      starts_.push_back(starts_.back() + int32_t(queries[s]));
      lengths_.push_back(int32_t(contexts[s]));
      longest_query_ = std::max(longest_query_, queries[s]);
    }
    const auto blocks = uint32_t(queries.size()) * table_blocks_;
    for (uint32_t i = 0; i < blocks; ++i) tables_.push_back(int32_t(i));
    std::shuffle(tables_.begin(), tables_.end(), random);
  }
  int blocks() const { return int(tables_.size()); }
  int slots() const { return blocks() * int(block_tokens_); }
  int tokens() const { return starts_.back(); }
  std::vector<int32_t> all_slots() const {
    std::vector<int32_t> slots(this->slots());
    std::iota(slots.begin(), slots.end(), 0);
    return slots;
  }
  reference::Sequences sequences() const {
    return {starts_, lengths_, tables_, int(table_blocks_)};
  }

  uint32_t block_tokens_;
  uint32_t table_blocks_ = 1, longest_query_ = 0;
  std::vector<int32_t> starts_, lengths_, tables_;
};

class AttentionRun : public PagedRun {
 public:
  AttentionRun(ActivationType type, const AttentionCase& c, std::mt19937& random)
      : PagedRun(c.queries, c.contexts, c.block_tokens, random), c_(c) {
    const size_t slots = size_t(this->slots()) * c.kv_heads;
    q_ = rounded(type, random_floats(random, size_t(tokens()) * c.heads * c.key_dim));
    k_ = rounded(type, random_floats(random, slots * c.key_dim));
    v_ = rounded(type, random_floats(random, slots * c.value_dim));
    if (c.sinks) sinks_ = random_floats(random, c.heads, 2.0f);
  }

  std::vector<float> wanted(float scale) {
    reference::ReferenceKvCache cache({.layers = 1,
                                       .blocks = blocks(),
                                       .block_tokens = int(c_.block_tokens),
                                       .kv_heads = int(c_.kv_heads),
                                       .key_dim = int(c_.key_dim),
                                       .value_dim = int(c_.value_dim),
                                       .dtype = DType::f32});
    const int key_row = int(c_.kv_heads * c_.key_dim), value_row = int(c_.kv_heads * c_.value_dim);
    reference::store_kv({k_.data(), slots(), key_row, key_row},
                        {v_.data(), slots(), value_row, value_row}, all_slots(), cache, 0);
    const int q_width = int(c_.heads * c_.key_dim), width = int(c_.heads * c_.value_dim);
    std::vector<float> out(size_t(tokens()) * width);
    reference::attention({q_.data(), tokens(), q_width, q_width}, sequences(), cache, 0,
                         {int(c_.heads), scale, int(c_.window), c_.soft_cap, sinks_},
                         {out.data(), tokens(), width, width});
    return out;
  }

  AttentionShape shape(float scale) const {
    const uint32_t key_row = c_.kv_heads * c_.key_dim, value_row = c_.kv_heads * c_.value_dim;
    return {.sequences = uint32_t(lengths_.size()),
            .longest_query = longest_query_,
            .heads = c_.heads,
            .kv_heads = c_.kv_heads,
            .key_dim = c_.key_dim,
            .value_dim = c_.value_dim,
            .q_stride = c_.heads * c_.key_dim,
            .out_stride = c_.heads * c_.value_dim,
            .blocks_per_sequence = table_blocks_,
            .block_tokens = c_.block_tokens,
            .k_block_stride = c_.block_tokens * key_row,
            .k_token_stride = key_row,
            .v_block_stride = c_.block_tokens * value_row,
            .v_token_stride = value_row,
            .scale = scale,
            .window = c_.window,
            .soft_cap = c_.soft_cap,
            .has_sinks = c_.sinks};
  }

  AttentionCase c_;
  std::vector<float> q_, k_, v_, sinks_;
};

TEST_P(AttentionKernel, AttendsOverThePagedCache) {
  for (const ActivationType type : {ActivationType::f16, ActivationType::bf16}) {
    for (const AttentionCase& c : attention_cases) {
      const std::string what = suffix(type) + " " + c.name;
      SCOPED_TRACE(what);
      AttentionRun run(type, c, random);
      const float scale = 1 / std::sqrt(float(c.key_dim));
      const std::vector<float> wanted = run.wanted(scale);
      const auto plan = plan_attention(soc(), run.shape(scale));
      DeviceMemory device;
      const uint64_t out = device.reserve(wanted.size() * 2);
      launch(device, "ridge_attention_" + suffix(type), plan.block_dim, device.store(type, run.q_),
             device.store(type, run.k_), device.store(type, run.v_), device.store(run.starts_),
             device.store(run.lengths_), device.store(run.tables_),
             c.sinks ? device.store(run.sinks_) : 0, out, device.reserve(plan.workspace_bytes),
             device.store_tiling(plan.tiling));
      // Probabilities round to the type before they weigh the values, and out once more.
      expect_close(device.load(type, out, wanted.size()), wanted, c.heads * c.value_dim,
                   2 * tolerance(type), what);
      if (HasFailure()) return;
    }
  }
}

struct MlaCase {
  std::string name;
  uint32_t heads, latent_dim, rotary_dim;
  std::vector<uint32_t> queries, contexts;
};

const std::vector<MlaCase> mla_cases = {
    {"decode with DeepSeek-V2-Lite's heads", 16, 512, 64, {1, 1}, {37, 130}},
    {"decode with more heads than a unit has rows", 80, 128, 32, {1}, {140}},
    {"a prompt", 4, 160, 16, {20, 1}, {20, 7}},
};

TEST_P(AttentionKernel, AttendsOverTheLatentCache) {
  for (const ActivationType type : {ActivationType::f16, ActivationType::bf16}) {
    for (const MlaCase& c : mla_cases) {
      const std::string what = suffix(type) + " " + c.name;
      SCOPED_TRACE(what);
      const uint32_t block_tokens = 16;
      PagedRun run(c.queries, c.contexts, block_tokens, random);
      const int latent_width = int(c.heads * c.latent_dim), rope_width = int(c.heads * c.rotary_dim);
      std::vector<float> q_latent =
          rounded(type, random_floats(random, size_t(run.tokens()) * latent_width));
      std::vector<float> q_rope =
          rounded(type, random_floats(random, size_t(run.tokens()) * rope_width));
      std::vector<float> latents =
          rounded(type, random_floats(random, size_t(run.slots()) * c.latent_dim));
      std::vector<float> rotary_keys =
          rounded(type, random_floats(random, size_t(run.slots()) * c.rotary_dim));
      const float scale = 1 / std::sqrt(float(c.latent_dim + c.rotary_dim));

      reference::ReferenceKvCache cache({.kind = KvCacheLayout::Kind::latent,
                                         .layers = 1,
                                         .blocks = run.blocks(),
                                         .block_tokens = int(block_tokens),
                                         .key_dim = int(c.rotary_dim),
                                         .value_dim = int(c.latent_dim),
                                         .dtype = DType::f32});
      reference::store_latent({latents.data(), run.slots(), int(c.latent_dim), int(c.latent_dim)},
                              {rotary_keys.data(), run.slots(), int(c.rotary_dim),
                               int(c.rotary_dim)},
                              run.all_slots(), cache, 0);
      std::vector<float> wanted(q_latent.size());
      reference::mla_attention({q_latent.data(), run.tokens(), latent_width, latent_width},
                               {q_rope.data(), run.tokens(), rope_width, rope_width},
                               run.sequences(), cache, 0, int(c.heads), scale,
                               {wanted.data(), run.tokens(), latent_width, latent_width});

      const auto plan =
          plan_mla_attention(soc(), {.sequences = uint32_t(run.lengths_.size()),
                                     .longest_query = run.longest_query_,
                                     .heads = c.heads,
                                     .latent_dim = c.latent_dim,
                                     .rotary_dim = c.rotary_dim,
                                     .q_latent_stride = uint32_t(latent_width),
                                     .q_rope_stride = uint32_t(rope_width),
                                     .out_stride = uint32_t(latent_width),
                                     .blocks_per_sequence = run.table_blocks_,
                                     .block_tokens = block_tokens,
                                     .latent_block_stride = block_tokens * c.latent_dim,
                                     .latent_token_stride = c.latent_dim,
                                     .rotary_block_stride = block_tokens * c.rotary_dim,
                                     .rotary_token_stride = c.rotary_dim,
                                     .scale = scale});
      DeviceMemory device;
      const uint64_t out = device.reserve(wanted.size() * 2);
      launch(device, "ridge_mla_attention_" + suffix(type), plan.block_dim,
             device.store(type, q_latent), device.store(type, q_rope), device.store(type, latents),
             device.store(type, rotary_keys), device.store(run.starts_), device.store(run.lengths_),
             device.store(run.tables_), out, device.reserve(plan.workspace_bytes),
             device.store_tiling(plan.tiling));
      expect_close(device.load(type, out, wanted.size()), wanted, c.heads * c.latent_dim,
                   2 * tolerance(type), what);
      if (HasFailure()) return;
    }
  }
}

TEST_P(AttentionKernel, RefusesHeadsThatItCannotTake) {
  AttentionShape shape{.sequences = 1,
                       .longest_query = 1,
                       .heads = 8,
                       .kv_heads = 1,
                       .key_dim = 64,
                       .value_dim = 64,
                       .q_stride = 512,
                       .out_stride = 512,
                       .blocks_per_sequence = 1,
                       .block_tokens = 16,
                       .k_block_stride = 1024,
                       .k_token_stride = 64,
                       .v_block_stride = 1024,
                       .v_token_stride = 64,
                       .scale = 1.0f};
  EXPECT_NO_THROW(plan_attention(soc(), shape));
  shape.key_dim = 72;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
  shape.key_dim = 592;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
  shape.key_dim = 64;
  shape.value_dim = 528;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
  shape.value_dim = 64;
  shape.k_token_stride = 65536;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
}

INSTANTIATE_FOR_SETTINGS(AttentionKernel);

}  // namespace

}  // namespace ridge::backend::ascend
