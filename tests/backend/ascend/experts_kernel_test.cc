#include <algorithm>
#include <numeric>

#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"

// Routing, and linears with a weight for each expert or head.
namespace ridge::backend::ascend {

namespace {

using ExpertKernels = KernelTest;

struct RouteCase {
  std::string name;
  uint32_t rows;
  Router router;
  bool has_bias;
};

const std::vector<RouteCase> route_cases = {
    {"softmax", 3, {.experts = 60, .top_k = 4}, false},
    {"one expert", 1, {.experts = 5, .top_k = 1, .normalize = true}, false},
    {"softmax by groups", 50,
     {.experts = 64, .top_k = 6, .groups = 8, .top_groups = 3, .scale = 16.0f}, false},
    {"sigmoid by groups", 9,
     {.scoring = Router::Scoring::sigmoid, .experts = 256, .top_k = 8, .groups = 8,
      .top_groups = 4, .normalize = true, .scale = 2.5f},
     true},
    {"small groups", 2,
     {.scoring = Router::Scoring::sigmoid, .experts = 8, .top_k = 3, .groups = 4, .top_groups = 3,
      .normalize = true},
     true},
};

TEST_P(ExpertKernels, RouteAsTheReferenceDoes) {
  for (const ActivationType type : activation_types) {
    for (const RouteCase& c : route_cases) {
      const std::string what = suffix(type) + " " + c.name;
      SCOPED_TRACE(what);
      const Router& router = c.router;
      const auto experts = uint32_t(router.experts), top_k = uint32_t(router.top_k);
      // Logits of few values, so that some are equal.
      std::vector<float> logits = random_floats(random, size_t{c.rows} * experts, 2.0f);
      for (float& logit : logits) logit = rounded(type, std::round(logit * 32) / 32);
      std::vector<float> bias;
      if (c.has_bias) bias = random_floats(random, experts, 0.2f);
      std::vector<int32_t> wanted_ids(size_t{c.rows} * top_k);
      std::vector<float> wanted(wanted_ids.size());
      reference::route({logits.data(), int(c.rows), router.experts, router.experts}, router, bias,
                       {wanted_ids.data(), int(c.rows), router.top_k, router.top_k},
                       {wanted.data(), int(c.rows), router.top_k, router.top_k});

      const auto plan = plan_route(
          soc(), {.row = {c.rows, experts, element_bytes(type)},
                  .top_k = top_k,
                  .groups = uint32_t(router.groups),
                  .top_groups = uint32_t(router.top_groups),
                  .scoring = router.scoring == Router::Scoring::softmax ? RouteTiling::softmax
                                                                        : RouteTiling::sigmoid,
                  .normalizes = router.normalize,
                  .has_bias = c.has_bias,
                  .scale = router.scale,
                  .logits_stride = experts,
                  .ids_stride = top_k,
                  .weights_stride = top_k});
      DeviceMemory device;
      const uint64_t ids = device.reserve(wanted.size() * 4);
      const uint64_t weights = device.reserve(wanted.size() * 4);
      launch(device, "ridge_route_" + suffix(type), plan.block_dim, device.store(type, logits),
             c.has_bias ? device.store(bias) : 0, ids, weights, device.store_tiling(plan.tiling));
      EXPECT_EQ(device.load<int32_t>(ids, wanted.size()), wanted_ids) << what;
      expect_close(device.load<float>(weights, wanted.size()), wanted, top_k, 2e-6, what);
      if (HasFailure()) return;
    }
  }
}

struct ExpertCase {
  std::string kernel;
  DType dtype;
  uint32_t tokens, experts, top_k, n, k;
  bool x_for_each_choice;
};

const std::vector<ExpertCase> expert_cases = {
    {"f16", DType::f16, 5, 6, 2, 40, 48, false},    {"bf16", DType::bf16, 3, 4, 2, 100, 32, true},
    {"f16", DType::f16, 150, 3, 2, 300, 64, false}, {"i4", DType::q4_k, 5, 7, 3, 80, 256, false},
    {"i8", DType::q6_k, 40, 4, 2, 200, 512, true},  {"i4", DType::q4_0, 1, 9, 2, 64, 96, false},
};

// A weight of each expert as the file has it and as the kernel takes it.
struct ExpertWeights {
  std::vector<std::byte> blocks, codes, scales;
};
ExpertWeights random_experts(std::mt19937& random, const ExpertCase& c) {
  ExpertWeights weights;
  for (uint32_t e = 0; e < c.experts; ++e) {
    std::vector<std::byte> blocks(c.n * row_bytes(c.dtype, c.k));
    const auto append = [](std::vector<std::byte>& to, const auto& values) {
      const auto bytes = std::as_bytes(std::span(values));
      to.insert(to.end(), bytes.begin(), bytes.end());
    };
    if (is_quantized(c.dtype)) {
      for (std::byte& byte : blocks) byte = std::byte(random());
      const DTypeTraits& of = traits(c.dtype);
      // d and, of Q4_K, minima that about centre the codes.
      const size_t d_at = c.dtype == DType::q6_k ? 208 : 0;
      const float size = c.dtype == DType::q4_0 ? 0.02f : 2e-4f;
      for (size_t at = 0; at < blocks.size(); at += size_t(of.block_bytes)) {
        const float d = random_floats(random, 1, size)[0];
        const uint16_t bits = f32_to_f16(d);
        std::memcpy(blocks.data() + at + d_at, &bits, 2);
        if (c.dtype != DType::q4_k) continue;
        const uint16_t minimum = f32_to_f16(8 * d);
        std::memcpy(blocks.data() + at + 2, &minimum, 2);
      }
      const QuantizedNz packed = pack_quantized(c.dtype, blocks, c.n, c.k);
      append(weights.codes, packed.codes);
      append(weights.scales, packed.scales);
    } else {
      std::vector<uint16_t> halves;
      for (const float value : random_floats(random, size_t{c.n} * c.k)) {
        halves.push_back(c.dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value));
      }
      std::memcpy(blocks.data(), halves.data(), blocks.size());
      append(weights.codes, pack_nz(halves, c.n, c.k));
    }
    append(weights.blocks, blocks);
  }
  return weights;
}

double expert_tolerance(const ExpertCase& c) {
  return 2e-6 + 0x1p-24 * std::sqrt(double(c.k)) * 4 + (is_quantized(c.dtype) ? 0x1p-10 : 0);
}

// The step of a model: choices are sorted by expert, x gathered, multiplied, and what comes out mixed or
// put back where it belongs.
TEST_P(ExpertKernels, MultiplyByTheExpertsOfEachToken) {
  for (const ExpertCase& c : expert_cases) {
    const std::string what = c.kernel + " " + std::string(name(c.dtype)) + " " +
                             std::to_string(c.tokens) + " tokens";
    SCOPED_TRACE(what);
    const ActivationType type =
        c.dtype == DType::bf16 ? ActivationType::bf16 : ActivationType::f16;
    const ExpertWeights experts = random_experts(random, c);
    const uint32_t choices = c.tokens * c.top_k;
    const uint32_t x_rows = c.x_for_each_choice ? choices : c.tokens;
    std::vector<float> x = rounded(type, random_floats(random, size_t{x_rows} * c.k));
    std::vector<int32_t> ids;
    std::vector<int32_t> all(c.experts);
    std::iota(all.begin(), all.end(), 0);
    for (uint32_t t = 0; t < c.tokens; ++t) {
      std::shuffle(all.begin(), all.end(), random);
      ids.insert(ids.end(), all.begin(), all.begin() + c.top_k);
    }
    std::vector<float> weights = random_floats(random, choices);
    const reference::ReferenceWeight weight(
        {.name = "w",
         .segments = {{c.dtype, Shape{int64_t(c.experts), int64_t(c.n), int64_t(c.k)},
                       experts.blocks}}});
    const int x_columns = int(c.x_for_each_choice ? c.top_k * c.k : c.k);
    const int tokens = int(c.tokens), top_k = int(c.top_k), n = int(c.n);
    const reference::Rows32 x_of_tokens = {x.data(), tokens, x_columns, x_columns};
    std::vector<float> each(size_t{choices} * c.n), mixed(size_t{c.tokens} * c.n);
    reference::expert_linear(x_of_tokens, weight, {}, {ids.data(), tokens, top_k, top_k}, {},
                             {each.data(), tokens, top_k * n, top_k * n});
    reference::expert_linear(x_of_tokens, weight, {}, {ids.data(), tokens, top_k, top_k},
                             {weights.data(), tokens, top_k, top_k}, {mixed.data(), tokens, n, n});

    DeviceMemory device;
    const uint64_t starts = device.reserve((c.experts + 1) * 4);
    const uint64_t rows = device.reserve(choices * 4), places = device.reserve(choices * 4);
    const auto sort = plan_sort_experts(c.experts, choices, c.x_for_each_choice ? 1 : c.top_k);
    launch(device, "ridge_sort_experts", sort.block_dim, device.store(ids), starts, rows, places,
           device.store_tiling(sort.tiling));
    const uint64_t sorted_x = device.reserve(size_t{choices} * c.k * 2);
    const auto gather = plan_embed(soc(), {choices, c.k * 2, c.k * 2, c.k * 2});
    launch(device, "ridge_embed", gather.block_dim, rows, device.store(type, x), sorted_x,
           device.store_tiling(gather.tiling));
    const uint64_t sorted_y = device.reserve(size_t{choices} * c.n * 4);
    const LinearShape shape = {.m = choices,
                               .n = c.n,
                               .k = c.k,
                               .x_stride = c.k,
                               .out_stride = c.n,
                               .layout = LinearTiling::nz,
                               .out_floats = true,
                               .groups = c.experts};
    if (is_quantized(c.dtype)) {
      const auto plan = plan_quantized_linear(soc(), shape, quantized_format(c.dtype));
      EXPECT_EQ(plan.kernel, "ridge_expert_linear_" + c.kernel);
      launch(device, plan.kernel, plan.block_dim, sorted_x, device.store(experts.codes),
             device.store(experts.scales), starts, sorted_y, device.reserve(plan.workspace_bytes),
             device.store_tiling(plan.tiling));
    } else {
      const auto plan = plan_linear(soc(), shape);
      launch(device, "ridge_expert_linear_" + c.kernel, plan.block_dim, sorted_x,
             device.store(experts.codes), starts, sorted_y, device.store_tiling(plan.tiling));
    }
    const uint64_t y = device.reserve(each.size() * 4);
    const auto put_back = plan_embed(soc(), {choices, c.n * 4, c.n * 4, c.n * 4});
    launch(device, "ridge_embed", put_back.block_dim, places, sorted_y, y,
           device.store_tiling(put_back.tiling));
    expect_close(device.load<float>(y, each.size()), each, c.n, expert_tolerance(c), what);
    const uint64_t out = device.reserve(mixed.size() * 4);
    const auto combine =
        plan_combine_experts(soc(), {c.tokens, c.n, c.top_k, c.top_k, c.n, c.n});
    launch(device, "ridge_combine_experts_f32", combine.block_dim, sorted_y, places,
           device.store(weights), out, device.store_tiling(combine.tiling));
    // Two experts of a token may nearly cancel.
    expect_close(device.load<float>(out, mixed.size()), mixed, c.n, 4 * expert_tolerance(c), what);
    if (HasFailure()) return;
  }
}

// Whole numbers, which sum exactly; an expert without rows among them.
TEST_P(ExpertKernels, MultiplyIntegersOfEightBits) {
  for (const auto& [n, k] : {std::pair{33u, 32u}, {100u, 96u}, {300u, 700u}}) {
    SCOPED_TRACE(std::to_string(n) + " x " + std::to_string(k));
    const std::vector<int32_t> starts = {0, 3, 3, 143, 144, 161};
    const auto experts = static_cast<uint32_t>(starts.size() - 1);
    const auto rows = static_cast<uint32_t>(starts.back());
    const auto codes = [&](size_t count) {
      std::vector<int8_t> values(count);
      for (int8_t& value : values) value = int8_t(int(random() % 256) - 128);
      return values;
    };
    const std::vector<int8_t> x = codes(size_t{rows} * k);
    std::vector<int8_t> packed;
    std::vector<int32_t> wanted(size_t{rows} * n);
    for (uint32_t e = 0; e < experts; ++e) {
      const std::vector<int8_t> weight = codes(size_t{n} * k);
      const std::vector<int8_t> one = pack_nz(std::span<const int8_t>(weight), n, k);
      packed.insert(packed.end(), one.begin(), one.end());
      for (int32_t r = starts[e]; r < starts[e + 1]; ++r) {
        for (uint32_t c = 0; c < n; ++c) {
          for (uint32_t i = 0; i < k; ++i) {
            wanted[size_t(r) * n + c] += int32_t(x[size_t(r) * k + i]) * weight[c * k + i];
          }
        }
      }
    }
    DeviceMemory device;
    const uint64_t out = device.reserve(wanted.size() * 4);
    const auto plan = plan_linear_w8a8(soc(), {.m = rows,
                                               .n = n,
                                               .k = k,
                                               .x_stride = k,
                                               .out_stride = n,
                                               .layout = LinearTiling::nz,
                                               .groups = experts});
    launch(device, "ridge_expert_linear_w8a8", plan.block_dim, device.store(x), device.store(packed),
           device.store(starts), out, device.store_tiling(plan.tiling));
    EXPECT_EQ(device.load<int32_t>(out, wanted.size()), wanted);
    const std::vector<float> row_scales = random_floats(random, rows, 0.01f);
    const std::vector<float> scales = random_floats(random, size_t{experts} * n, 0.01f);
    std::vector<float> numbers;
    for (uint32_t e = 0; e < experts; ++e) {
      for (int32_t r = starts[e]; r < starts[e + 1]; ++r) {
        for (uint32_t c = 0; c < n; ++c) {
          const double sum = wanted[size_t(r) * n + c];
          numbers.push_back(float(sum * row_scales[size_t(r)] * scales[e * n + c]));
        }
      }
    }
    const uint64_t scaled = device.reserve(numbers.size() * 4);
    const auto scale = plan_scale_products(soc(), {{rows, n, 4}, n, n, experts});
    launch(device, "ridge_expert_scale_products_f32", scale.block_dim, out,
           device.store(row_scales), device.store(scales), device.store(starts), scaled,
           device.store_tiling(scale.tiling));
    expect_close(device.load<float>(scaled, numbers.size()), numbers, n, 1e-6, "scaled");
    if (HasFailure()) return;
  }
}

TEST_P(ExpertKernels, MultiplyEachHeadByItsOwnWeight) {
  for (const uint32_t tokens : {1u, 7u, 140u}) {
    const ExpertCase c = {"f16", DType::f16, tokens, 5, 0, 48, 32, false};
    SCOPED_TRACE(tokens);
    const ExpertWeights heads = random_experts(random, c);
    const uint32_t x_columns = c.experts * c.k, columns = c.experts * c.n;
    std::vector<float> x =
        rounded(ActivationType::f16, random_floats(random, size_t{tokens} * x_columns));
    const reference::ReferenceWeight weight(
        {.name = "w",
         .segments = {{c.dtype, Shape{int64_t(c.experts), int64_t(c.n), int64_t(c.k)},
                       heads.blocks}}});
    std::vector<float> wanted(size_t{tokens} * columns);
    reference::head_linear({x.data(), int(tokens), int(x_columns), int(x_columns)}, weight,
                           {wanted.data(), int(tokens), int(columns), int(columns)});
    const auto plan = plan_linear(soc(), {.m = tokens,
                                          .n = c.n,
                                          .k = c.k,
                                          .x_stride = x_columns,
                                          .out_stride = columns,
                                          .layout = LinearTiling::nz,
                                          .out_floats = true,
                                          .groups = c.experts,
                                          .grouping = LinearTiling::by_columns});
    DeviceMemory device;
    const uint64_t out = device.reserve(wanted.size() * 4);
    launch(device, "ridge_linear_f16", plan.block_dim, device.store(ActivationType::f16, x),
           device.store(heads.codes), out, device.store_tiling(plan.tiling));
    expect_close(device.load<float>(out, wanted.size()), wanted, columns, expert_tolerance(c),
                 std::to_string(tokens));
  }
}

INSTANTIATE_FOR_SETTINGS(ExpertKernels);

}  // namespace

}  // namespace ridge::backend::ascend
