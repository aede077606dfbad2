// Weights of int8 with a scale for each row, made for activations of int8: whether the int8 cube multiplies
// them, and what comes of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "backend/ascend/device/launches.h"
#include "backend/ascend/device/open.h"
#include "backend/ascend/device/weight.h"
#include "backend/ascend/twin/acl/control.h"
#include "backend/recorder.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"

namespace ridge::backend::ascend::int8_test {

namespace {

// Blocks of Q8_0, [n, k], whose rows have one scale each.
struct Codes {
  Codes(std::mt19937& random, int n, int k) : n(n), k(k), blocks(static_cast<size_t>(n * k / 32)) {
    std::uniform_real_distribution<float> scale(0.01f, 0.02f);
    for (int row = 0; row < n; ++row) {
      const f16_bits d = f32_to_f16(scale(random));
      for (int b = 0; b < k / 32; ++b) {
        BlockQ8_0& block = blocks[static_cast<size_t>(row * k / 32 + b)];
        block.d = d;
        for (int8_t& code : block.codes) code = static_cast<int8_t>(static_cast<int>(random() % 256) - 128);
      }
    }
  }
  TensorView view() const {
    return {DType::q8_0, Shape{n, k}, std::as_bytes(std::span(blocks))};
  }
  const BlockQ8_0& block(int row, int column) const {
    return blocks[static_cast<size_t>((row * k + column) / 32)];
  }
  int code(int row, int column) const { return block(row, column).codes[column % 32]; }
  float scale(int row) const { return f16_to_f32(block(row, 0).d); }

  int n, k;
  std::vector<BlockQ8_0> blocks;
};

class Int8 : public testing::TestWithParam<const char*> {
 protected:
  // x [tokens, k] W^T + bias, on a device that is opened for it.
  std::vector<float> multiply(const std::vector<float>& x, const WeightSource& source,
                              const std::vector<float>& bias) {
    const auto device = open_twin(GetParam(), {});
    const auto weight = device->prepare_weight(source);
    takes_int8 = as_ascend(*weight).takes_int8();
    const auto k = weight->columns();
    const auto tokens = static_cast<int64_t>(x.size()) / k;
    const auto table = device->prepare_weight(
        {.name = "x",
         .segments = {{DType::f32, Shape{tokens, k}, std::as_bytes(std::span(x))}},
         .use = WeightUse::embedding});
    const auto added = device->prepare_weight(
        {.name = "bias",
         .segments = {{DType::f32, Shape{weight->rows()}, std::as_bytes(std::span(bias))}},
         .use = WeightUse::vector});
    const auto ids = device->allocate(static_cast<size_t>(tokens) * sizeof(int32_t));
    Recorder recorder({.tokens = static_cast<int>(tokens)}, {.token_ids = ids.get()},
                      device->activation_dtype());
    recorder.mark_output(recorder.linear(recorder.embed(*table), *weight, added.get()));
    const Recording recording = recorder.finish();
    const auto program = device->compile(recording);
    const auto stream = device->create_stream();
    std::vector<int32_t> all(static_cast<size_t>(tokens));
    for (size_t t = 0; t < all.size(); ++t) all[t] = static_cast<int32_t>(t);
    stream->upload(*ids, 0, std::as_bytes(std::span(all)));
    Launches launches;
    stream->run(*program, {.tokens = static_cast<int>(tokens)});
    std::vector<float> out(static_cast<size_t>(tokens * weight->rows()));
    stream->download(program->output(0), 0, std::as_writable_bytes(std::span(out)));
    stream->synchronize();
    w8a8_launches = launches.of("ridge_linear_w8a8");
    quantisations = launches.of("ridge_quantize_rows_f32");
    return out;
  }

  bool takes_int8 = false;
  int w8a8_launches = 0;
  int quantisations = 0;
  std::mt19937 random{5};
};

// The sums are whole numbers, and exact: what is left is to round twice with scales and once with the bias.
TEST_P(Int8, CubeMultipliesRowsThatBecomeInt8AsTheyCome) {
  for (const auto& [tokens, k] : {std::pair{1, 32}, {3, 96}, {17, 576}, {2, 18944}}) {
    SCOPED_TRACE(std::to_string(tokens) + " rows of " + std::to_string(k));
    const Codes first(random, 40, k), second(random, 27, k);
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<size_t>(tokens * k)), bias(67);
    for (float& value : x) value = normal(random);
    for (float& value : bias) value = normal(random);
    std::fill_n(x.begin(), tokens > 1 ? k : 0, 0.0f);  // a row of zeros has the scale 0
    const std::vector<float> got = multiply(
        x, {.name = "w", .segments = {first.view(), second.view()}, .int8_activations = true}, bias);
    EXPECT_TRUE(takes_int8);
    EXPECT_EQ(w8a8_launches, 1);
    EXPECT_EQ(quantisations, 1);
    for (int t = 0; t < tokens; ++t) {
      const float* row = x.data() + t * k;
      float largest = 0;
      for (int i = 0; i < k; ++i) largest = std::max(largest, std::fabs(row[i]));
      const float scale = largest / 127;
      for (int n = 0; n < 67; ++n) {
        const Codes& codes = n < 40 ? first : second;
        const int at = n < 40 ? n : n - 40;
        int64_t sum = 0;
        double size = 0;  // of what is added
        for (int i = 0; i < k && scale > 0; ++i) {
          const auto code = static_cast<int64_t>(std::nearbyint(row[i] / scale));
          sum += code * codes.code(at, i);
        }
        const double product = static_cast<double>(sum) * scale * codes.scale(at);
        size = std::fabs(product) + std::fabs(bias[static_cast<size_t>(n)]);
        ASSERT_NEAR(got[static_cast<size_t>(t * 67 + n)],
                    product + bias[static_cast<size_t>(n)], 3e-7 * size)
            << "row " << t << ", column " << n;
      }
    }
  }
}

// What the experts of each token give, once by themselves and once mixed; then rows of choices by others.
TEST_P(Int8, CubeMultipliesByExpertsToo) {
  constexpr int tokens = 13, experts = 4, top_k = 2, k = 64, n = 32, width = experts + k;
  const auto device = open_twin(GetParam(), {});
  const Codes up(random, experts * n, k), down(random, experts * k, n);
  const auto prepare = [&](const Codes& codes, int rows) {
    TensorView view = codes.view();
    view.shape = Shape{experts, rows, codes.k};
    return device->prepare_weight({.name = "w", .segments = {view}, .int8_activations = true});
  };
  const auto up_weight = prepare(up, n), down_weight = prepare(down, k);
  EXPECT_TRUE(as_ascend(*up_weight).takes_int8());
  std::normal_distribution<float> normal;
  std::vector<float> x(tokens * width);
  for (float& value : x) value = normal(random);
  const auto table = device->prepare_weight(
      {.name = "x",
       .segments = {{DType::f32, Shape{tokens, width}, std::as_bytes(std::span(x))}},
       .use = WeightUse::embedding});
  const auto token_ids = device->allocate(tokens * sizeof(int32_t));
  Recorder recorder({.tokens = tokens}, {.token_ids = token_ids.get()}, device->activation_dtype());
  const Value rows = recorder.embed(*table);
  const auto routed =
      recorder.route(rows.slice(0, experts), {.experts = experts, .top_k = top_k});
  const Value in = rows.slice(experts, k);
  const Value each = recorder.expert_linear(in, *up_weight, routed.ids, {});
  recorder.mark_output(routed.ids);
  recorder.mark_output(routed.weights);
  recorder.mark_output(each);
  recorder.mark_output(recorder.expert_linear(in, *up_weight, routed.ids, routed.weights));
  recorder.mark_output(recorder.expert_linear(each, *down_weight, routed.ids, routed.weights));
  const Recording recording = recorder.finish();
  const auto program = device->compile(recording);
  const auto stream = device->create_stream();
  std::vector<int32_t> all(tokens);
  std::iota(all.begin(), all.end(), 0);
  stream->upload(*token_ids, 0, std::as_bytes(std::span(all)));
  Launches launches;
  stream->run(*program, {.tokens = tokens});
  const auto output = [&](int index, auto values) {
    stream->download(program->output(index), 0, std::as_writable_bytes(std::span(values)));
    stream->synchronize();
    return values;
  };
  const auto ids = output(0, std::vector<int32_t>(tokens * top_k));
  const auto weights = output(1, std::vector<float>(tokens * top_k));
  const auto each_got = output(2, std::vector<float>(tokens * top_k * n));
  const auto mixed_got = output(3, std::vector<float>(tokens * n));
  const auto down_got = output(4, std::vector<float>(tokens * k));
  EXPECT_EQ(launches.of("ridge_expert_linear_w8a8"), 3);

  const auto product = [](const float* row, const Codes& codes, int at) {
    float largest = 0;
    for (int i = 0; i < codes.k; ++i) largest = std::max(largest, std::fabs(row[i]));
    const float scale = largest / 127;
    int64_t sum = 0;
    for (int i = 0; i < codes.k; ++i) {
      sum += static_cast<int64_t>(std::nearbyint(row[i] / scale)) * codes.code(at, i);
    }
    return static_cast<double>(sum) * scale * codes.scale(at);
  };
  for (int t = 0; t < tokens; ++t) {
    std::vector<double> mixed(n), mixed_down(k), sizes(n), sizes_down(k);
    for (int c = 0; c < top_k; ++c) {
      const int choice = t * top_k + c, expert = ids[static_cast<size_t>(choice)];
      const float weight = weights[static_cast<size_t>(choice)];
      for (int i = 0; i < n; ++i) {
        const double wanted = product(&x[static_cast<size_t>(t * width + experts)], up, expert * n + i);
        ASSERT_NEAR(each_got[static_cast<size_t>(choice * n + i)], wanted, 3e-7 * std::fabs(wanted))
            << "token " << t << ", choice " << c << ", column " << i;
        mixed[static_cast<size_t>(i)] += weight * wanted;
        sizes[static_cast<size_t>(i)] += weight * std::fabs(wanted);
      }
      for (int i = 0; i < k; ++i) {
        const double wanted =
            product(&each_got[static_cast<size_t>(choice * n)], down, expert * k + i);
        mixed_down[static_cast<size_t>(i)] += weight * wanted;
        sizes_down[static_cast<size_t>(i)] += weight * std::fabs(wanted);
      }
    }
    for (int i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_NEAR(mixed_got[static_cast<size_t>(t * n + i)], mixed[at], 1e-6 * sizes[at]) << t;
    }
    for (int i = 0; i < k; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_NEAR(down_got[static_cast<size_t>(t * k + i)], mixed_down[at], 1e-6 * sizes_down[at]) << t;
    }
  }
}

// Whatever lacks what the cube needs is multiplied as other weights of Q8_0.
TEST_P(Int8, OtherWeightsKeepTheirRowsOfX) {
  const int k = 64;
  Codes codes(random, 20, k);
  const std::vector<float> x(static_cast<size_t>(2 * k), 0.5f), bias(20);
  multiply(x, {.name = "w", .segments = {codes.view()}}, bias);
  EXPECT_FALSE(takes_int8);
  EXPECT_EQ(w8a8_launches, 0);

  std::vector<float> floats(static_cast<size_t>(7 * k), 1.0f);
  multiply(x,
           {.name = "w",
            .segments = {codes.view(),
                         {DType::f32, Shape{7, k}, std::as_bytes(std::span(floats))}},
            .int8_activations = true},
           std::vector<float>(27));
  EXPECT_FALSE(takes_int8);

  codes.blocks[5].d = f32_to_f16(0.5f);
  multiply(x, {.name = "w", .segments = {codes.view()}, .int8_activations = true}, bias);
  EXPECT_FALSE(takes_int8);
  EXPECT_EQ(quantisations, 0);

  const Codes heads(random, 20, k);
  TensorView view = heads.view();
  view.shape = Shape{4, 5, k};
  const auto by_heads = open_twin(GetParam(), {})->prepare_weight(
      {.name = "heads", .segments = {view}, .int8_activations = true, .by_heads = true});
  EXPECT_FALSE(as_ascend(*by_heads).takes_int8());
}

INSTANTIATE_TEST_SUITE_P(Chips, Int8, testing::Values("910B2", "910B4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace

}  // namespace ridge::backend::ascend::int8_test
