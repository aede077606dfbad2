#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "backend/ascend/device/launches.h"
#include "backend/ascend/device/open.h"
#include "backend/recorder.h"

// Rope and the store behind it are one launch.
namespace ridge::backend::ascend::rope_test {

namespace {

constexpr int tokens = 5, heads = 2, kv_heads = 1, dim = 16;
constexpr int columns = (heads + 2 * kv_heads) * dim;

// q, k and v of each token are a row of a table; k and v go to a cache, over which q attends.
class Step {
 public:
  // Something stands between the two ops where they are apart.
  std::vector<float> run(DType cached, bool apart) {
    const auto device = open_twin("910B4", {});
    std::vector<float> rows(tokens * columns);
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& value : rows) value = normal(random);
    const auto table = device->prepare_weight(
        {.name = "rows",
         .segments = {{DType::f32, Shape{tokens, columns}, std::as_bytes(std::span(rows))}},
         .use = WeightUse::embedding});
    const auto cache = device->create_kv_cache({.layers = 1,
                                                .blocks = 2,
                                                .block_tokens = 4,
                                                .kv_heads = kv_heads,
                                                .key_dim = dim,
                                                .value_dim = dim,
                                                .dtype = cached});
    const auto stream = device->create_stream();
    const auto given = [&](const std::vector<int32_t>& values) {
      buffers_.push_back(device->allocate(values.size() * sizeof(int32_t)));
      stream->upload(*buffers_.back(), 0, std::as_bytes(std::span(values)));
      return buffers_.back().get();
    };
    Recorder ops({.tokens = tokens, .sequences = 1, .blocks_per_sequence = 2},
                 {.token_ids = given({0, 1, 2, 3, 4}),
                  .positions = given({0, 1, 2, 3, 4}),
                  .slots = given({4, 5, 6, 7, 0}),
                  .query_starts = given({0, tokens}),
                  .context_lengths = given({tokens}),
                  .block_tables = given({1, 0})},
                 device->activation_dtype());
    const Value x = ops.embed(*table);
    const Value q = x.slice(0, heads * dim), k = x.slice(heads * dim, dim);
    Value v = x.slice((heads + kv_heads) * dim, dim);
    ops.rope(q, k, dim, {.inverse_frequencies = {1, 0.5f, 0.25f, 0.1f, 0.05f, 0.02f, 0.01f, 0.005f}});
    if (apart) v = ops.scale(v, 1.0f);
    ops.store_kv(k, v, *cache, 0);
    ops.mark_output(ops.attention(q, *cache, 0, {.heads = heads, .scale = 0.25f}));
    const Recording recording = ops.finish();
    const auto program = device->compile(recording);
    Launches launches;
    stream->run(*program, {.tokens = tokens, .sequences = 1});
    std::vector<float> out(tokens * heads * dim);
    stream->download(program->output(0), 0, std::as_writable_bytes(std::span(out)));
    stream->synchronize();
    buffers_.clear();
    const std::string type = cached == DType::bf16 ? "bf16" : "f16";
    joined = launches.of("ridge_rope_store_kv_f32_" + type);
    rotations = launches.of("ridge_rope_store_kv_f32");
    stores = launches.of("ridge_rope_store_kv_" + type);
    return out;
  }

  int joined = 0, rotations = 0, stores = 0;

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

TEST(AscendRope, StoresWhatItRotatesInTheSameLaunch) {
  for (const DType cached : {DType::f16, DType::bf16}) {
    SCOPED_TRACE(name(cached));
    Step together, apart;
    const std::vector<float> out = together.run(cached, false);
    EXPECT_EQ(together.joined, 1);
    EXPECT_EQ(together.rotations + together.stores, 0);
    // The same bits, by kernels that have tests of their own.
    EXPECT_EQ(out, apart.run(cached, true));
    EXPECT_EQ(apart.joined, 0);
    EXPECT_EQ(apart.rotations, 1);
    EXPECT_EQ(apart.stores, 1);
  }
}

}  // namespace

}  // namespace ridge::backend::ascend::rope_test
