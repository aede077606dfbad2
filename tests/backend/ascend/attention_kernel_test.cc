#include "backend/ascend/kernel_test.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

using AttentionKernel = KernelTest;

struct AttentionCase {
  std::string name;
  uint32_t heads, kv_heads, head_dim, block_tokens;
  std::vector<uint32_t> queries;   // tokens of each sequence in this step
  std::vector<uint32_t> contexts;  // and in the cache, these included
};

const std::vector<AttentionCase> attention_cases = {
    {"decode of one head", 1, 1, 64, 16, {1}, {5}},
    {"decode of grouped heads", 9, 3, 64, 16, {1, 1, 1}, {1, 130, 300}},
    {"heads of 80", 4, 4, 80, 16, {1, 1}, {33, 17}},
    {"many heads of 128 for one", 16, 2, 128, 64, {1, 1}, {257, 128}},
    {"a prompt", 4, 2, 32, 4, {70}, {70}},
    {"chunks beside decode", 6, 2, 64, 16, {40, 1, 9}, {150, 64, 9}},
};

class AttentionRun {
 public:
  AttentionRun(ActivationType type, const AttentionCase& c, std::mt19937& random)
      : type_(type), c_(c) {
    tables_blocks_ = 1;
    for (const uint32_t context : c.contexts) {
      tables_blocks_ = std::max(tables_blocks_, (context + c.block_tokens - 1) / c.block_tokens);
    }
    starts_.push_back(0);
    for (size_t s = 0; s < c.queries.size(); ++s) {
      starts_.push_back(starts_.back() + int32_t(c.queries[s]));
      lengths_.push_back(int32_t(c.contexts[s]));
    }
    // Blocks in scattered order.
    const uint32_t sequences = uint32_t(c.queries.size());
    blocks_ = sequences * tables_blocks_;
    for (uint32_t i = 0; i < blocks_; ++i) tables_.push_back(int32_t(i));
    std::shuffle(tables_.begin(), tables_.end(), random);
    const size_t row = size_t{c.kv_heads} * c.head_dim;
    const size_t cached = size_t{blocks_} * c.block_tokens * row;
    q_ = rounded(type, random_floats(random, size_t(starts_.back()) * c.heads * c.head_dim));
    k_ = rounded(type, random_floats(random, cached));
    v_ = rounded(type, random_floats(random, cached));
  }

  std::vector<float> wanted(float scale) {
    const int blocks = int(blocks_), row = int(c_.kv_heads * c_.head_dim);
    reference::ReferenceKvCache cache({.layers = 1,
                                       .blocks = blocks,
                                       .block_tokens = int(c_.block_tokens),
                                       .kv_heads = int(c_.kv_heads),
                                       .key_dim = int(c_.head_dim),
                                       .value_dim = int(c_.head_dim),
                                       .dtype = DType::f32});
    const int slots = blocks * int(c_.block_tokens);
    std::vector<int32_t> all_slots(slots);
    for (int i = 0; i < slots; ++i) all_slots[i] = i;
    reference::store_kv({k_.data(), slots, row, row}, {v_.data(), slots, row, row}, all_slots,
                        cache, 0);
    const int tokens = starts_.back(), width = int(c_.heads * c_.head_dim);
    std::vector<float> out(size_t(tokens) * width);
    reference::attention({q_.data(), tokens, width, width},
                         {starts_, lengths_, tables_, int(tables_blocks_)}, cache, 0,
                         {int(c_.heads), scale, 0, 0.0f, {}},
                         {out.data(), tokens, width, width});
    return out;
  }

  AttentionShape shape(float scale) const {
    const uint32_t token_stride = c_.kv_heads * c_.head_dim, width = c_.heads * c_.head_dim;
    return {uint32_t(lengths_.size()),
            *std::max_element(c_.queries.begin(), c_.queries.end()),
            c_.heads,
            c_.kv_heads,
            c_.head_dim,
            width,
            width,
            tables_blocks_,
            c_.block_tokens,
            c_.block_tokens * token_stride,
            token_stride,
            scale};
  }

  ActivationType type_;
  AttentionCase c_;
  uint32_t tables_blocks_ = 0, blocks_ = 0;
  std::vector<int32_t> starts_, lengths_, tables_;
  std::vector<float> q_, k_, v_;
};

TEST_P(AttentionKernel, AttendsOverThePagedCache) {
  for (const ActivationType type : {ActivationType::f16, ActivationType::bf16}) {
    for (const AttentionCase& c : attention_cases) {
      const std::string what = suffix(type) + " " + c.name;
      SCOPED_TRACE(what);
      AttentionRun run(type, c, random);
      const float scale = 1 / std::sqrt(float(c.head_dim));
      const std::vector<float> wanted = run.wanted(scale);
      const auto plan = plan_attention(soc(), run.shape(scale));
      DeviceMemory device;
      const uint64_t out = device.reserve(wanted.size() * 2);
      launch(device, "ridge_attention_" + suffix(type), plan.block_dim, device.store(type, run.q_),
             device.store(type, run.k_), device.store(type, run.v_), device.store(run.starts_),
             device.store(run.lengths_), device.store(run.tables_), out,
             device.reserve(plan.workspace_bytes), device.store_tiling(plan.tiling));
      // Probabilities round to the type before they weigh the values, and out once more.
      expect_close(device.load(type, out, wanted.size()), wanted, c.heads * c.head_dim,
                   2 * tolerance(type), what);
      if (HasFailure()) return;
    }
  }
}

TEST_P(AttentionKernel, RefusesHeadsThatItCannotTake) {
  AttentionShape shape{1, 1, 8, 1, 64, 512, 512, 1, 16, 1024, 64, 1.0f};
  EXPECT_NO_THROW(plan_attention(soc(), shape));
  shape.head_dim = 72;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
  shape.head_dim = 256;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
  shape.head_dim = 64;
  shape.token_stride = 65536;
  EXPECT_THROW(plan_attention(soc(), shape), Error);
}

INSTANTIATE_FOR_SETTINGS(AttentionKernel);

}  // namespace

}  // namespace ridge::backend::ascend
