#include "backend/arrays.h"
#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"
#include "tensor/dequantize.h"

namespace ridge::backend::ascend {

namespace {

using LinearKernel = KernelTest;

struct LinearCase {
  uint32_t m, n, k;
};

// Products are exact and sums float32 in order: each addition rounds once.
double linear_tolerance(ActivationType type, uint32_t k) {
  return tolerance(type) + 0x1p-24 * std::sqrt(double(k)) * 4;
}

class LinearRun {
 public:
  LinearRun(ActivationType type, const LinearCase& shape, std::mt19937& random)
      : type_(type), shape_(shape) {
    x_ = rounded(type, random_floats(random, size_t{shape.m} * shape.k));
    weight_ = rounded(type, random_floats(random, size_t{shape.n} * shape.k,
                                          1 / std::sqrt(float(shape.k))));
    wanted_.resize(size_t{shape.m} * shape.n);
    reference::linear(
        {x_.data(), int(shape.m), int(shape.k), int(shape.k)},
        reference::weight_over(weight_, Shape{int64_t(shape.n), int64_t(shape.k)}), {},
        {wanted_.data(), int(shape.m), int(shape.n), int(shape.n)});
  }

  uint64_t store_weight(DeviceMemory& device, LinearTiling::Layout layout) const {
    std::vector<uint16_t> bits;
    for (const float value : weight_) {
      bits.push_back(type_ == ActivationType::f16 ? f32_to_f16(value) : f32_to_bf16(value));
    }
    return device.store(layout == LinearTiling::nz ? pack_nz(bits, shape_.n, shape_.k) : bits);
  }
  const std::vector<float>& x() const { return x_; }
  const std::vector<float>& wanted() const { return wanted_; }

 private:
  ActivationType type_;
  LinearCase shape_;
  std::vector<float> x_, weight_, wanted_;
};

// Decode of one token and a few, prompts; sizes at and beyond fractals and tiles.
const std::vector<LinearCase> cases = {{1, 16, 16},    {1, 100, 40},   {1, 576, 576},
                                       {2, 64, 64},    {5, 300, 200},  {16, 48, 1100},
                                       {17, 33, 31},   {130, 100, 96}, {70, 530, 150}};

TEST_P(LinearKernel, MultipliesInBothLayouts) {
  for (const ActivationType type : {ActivationType::f16, ActivationType::bf16}) {
    for (const LinearCase& shape : cases) {
      const LinearRun run(type, shape, random);
      for (const LinearTiling::Layout layout : {LinearTiling::nd, LinearTiling::nz}) {
        const std::string what = suffix(type) + " " + std::to_string(shape.m) + " x " +
                                 std::to_string(shape.n) + " x " + std::to_string(shape.k) +
                                 (layout == LinearTiling::nz ? " nz" : " nd");
        SCOPED_TRACE(what);
        DeviceMemory device;
        const uint64_t out = device.reserve(run.wanted().size() * 2);
        const auto plan =
            plan_linear(soc(), {shape.m, shape.n, shape.k, shape.k, shape.n, layout});
        launch(device, "ridge_linear_" + suffix(type), plan.block_dim,
               device.store(type, run.x()), run.store_weight(device, layout), out,
               device.store_tiling(plan.tiling));
        expect_close(device.load(type, out, run.wanted().size()), run.wanted(), shape.n,
                     linear_tolerance(type, shape.k), what);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(LinearKernel, LeavesSumsAsFloats) {
  for (const LinearCase& shape : {LinearCase{1, 100, 40}, {17, 33, 31}, {70, 530, 150}}) {
    const LinearRun run(ActivationType::f16, shape, random);
    SCOPED_TRACE(shape.m);
    DeviceMemory device;
    const uint64_t out = device.reserve(run.wanted().size() * 4);
    const auto plan = plan_linear(
        soc(), {shape.m, shape.n, shape.k, shape.k, shape.n, LinearTiling::nz, true});
    launch(device, "ridge_linear_f16", plan.block_dim, device.store(ActivationType::f16, run.x()),
           run.store_weight(device, LinearTiling::nz), out, device.store_tiling(plan.tiling));
    expect_close(device.load<float>(out, run.wanted().size()), run.wanted(), shape.n,
                 linear_tolerance(ActivationType::f32, shape.k), "sums");
    if (HasFailure()) return;
  }
}

// Codes of both with a scale for each row of x and of W; the sums of products are exact.
TEST_P(LinearKernel, MultipliesIntegersOfEightBits) {
  for (const LinearCase& shape : {LinearCase{1, 100, 40}, LinearCase{5, 300, 700},
                                  LinearCase{17, 33, 31}, LinearCase{130, 530, 160}}) {
    const std::string what = std::to_string(shape.m) + " x " + std::to_string(shape.n) + " x " +
                             std::to_string(shape.k);
    SCOPED_TRACE(what);
    const auto codes = [&](size_t count) {
      std::vector<int8_t> values(count);
      for (int8_t& value : values) value = int8_t(int(random() % 255) - 127);
      return values;
    };
    const std::vector<int8_t> x = codes(size_t{shape.m} * shape.k);
    const std::vector<int8_t> weight = codes(size_t{shape.n} * shape.k);
    const std::vector<float> x_scales = random_floats(random, shape.m, 0.01f);
    const std::vector<float> scales = random_floats(random, shape.n, 0.01f);
    std::vector<float> wanted(size_t{shape.m} * shape.n);
    for (uint32_t r = 0; r < shape.m; ++r) {
      for (uint32_t c = 0; c < shape.n; ++c) {
        int64_t sum = 0;
        for (uint32_t i = 0; i < shape.k; ++i) {
          sum += int64_t(x[r * shape.k + i]) * weight[c * shape.k + i];
        }
        wanted[r * shape.n + c] = float(double(sum) * x_scales[r] * scales[c]);
      }
    }
    DeviceMemory device;
    const uint64_t sums = device.reserve(wanted.size() * 4);
    const auto plan = plan_linear_w8a8(
        soc(), {shape.m, shape.n, shape.k, shape.k, shape.n, LinearTiling::nz});
    launch(device, "ridge_linear_w8a8", plan.block_dim, device.store(x),
           device.store(pack_nz(std::span<const int8_t>(weight), shape.n, shape.k)), sums,
           device.store_tiling(plan.tiling));
    for (const ActivationType type : activation_types) {
      const uint64_t out = device.reserve(wanted.size() * element_bytes(type));
      const auto scale = plan_scale_products(
          soc(), {{shape.m, shape.n, element_bytes(type)}, shape.n, shape.n});
      launch(device, "ridge_scale_products_" + suffix(type), scale.block_dim, sums,
             device.store(x_scales), device.store(scales), out, device.store_tiling(scale.tiling));
      expect_close(device.load(type, out, wanted.size()), wanted, shape.n, tolerance(type), what);
    }
    if (HasFailure()) return;
  }
}

struct QuantizedCase {
  DType dtype;
  int d_at;        // byte of a block's half scale
  int minimum_at;  // and of that of its minima; -1: it has none
  float size;      // of codes times scales, about
  float centre;    // of the codes, where there are minima: what these take away, in d
};
const std::vector<QuantizedCase> quantized_types = {
    {DType::q4_0, 0, -1, 5, 0},      {DType::q4_1, 0, 2, 5, -8},
    {DType::q5_0, 0, -1, 9, 0},      {DType::q5_1, 0, 2, 9, -16},
    {DType::q8_0, 0, -1, 73, 0},     {DType::q2_k, 80, 82, 14, 1.5f},
    {DType::q3_k, 108, -1, 40, 0},   {DType::q4_k, 0, 2, 280, 8},
    {DType::q5_k, 0, 2, 560, 16},    {DType::q6_k, 208, -1, 1400, 0},
    {DType::iq4_nl, 0, -1, 65, 0},   {DType::iq4_xs, 0, -1, 1200, 0}};

class QuantizedLinear : public KernelTest {
 protected:
  void check(const QuantizedCase& type, const LinearCase& shape, bool out_floats);
};

// Blocks of a GGUF tensor with scales of both signs, every code and every scale of groups.
std::vector<std::byte> random_blocks(std::mt19937& random, const QuantizedCase& type,
                                     const LinearCase& shape) {
  std::vector<std::byte> bytes(shape.n * row_bytes(type.dtype, shape.k));
  for (std::byte& byte : bytes) byte = std::byte(random());
  std::normal_distribution<float> normal(0, 1 / std::sqrt(float(shape.k)) / type.size);
  const int block_bytes = traits(type.dtype).block_bytes;
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const float d = normal(random);
    const uint16_t scale = f32_to_f16(d);
    std::memcpy(bytes.data() + at + type.d_at, &scale, 2);
    if (type.minimum_at < 0) continue;
    const uint16_t minimum = f32_to_f16(type.centre * (d + 0.5f * normal(random)));
    std::memcpy(bytes.data() + at + type.minimum_at, &minimum, 2);
  }
  return bytes;
}

void QuantizedLinear::check(const QuantizedCase& type, const LinearCase& shape, bool out_floats) {
  const std::string what = std::string(name(type.dtype)) + " " + std::to_string(shape.m) + " x " +
                           std::to_string(shape.n) + " x " + std::to_string(shape.k);
  SCOPED_TRACE(what);
  std::vector<float> x =
      rounded(ActivationType::f16, random_floats(random, size_t{shape.m} * shape.k));
  // Now and then one value is much larger than its neighbours, as models have them.
  for (size_t i = 7; i < x.size(); i += 97) x[i] = rounded(ActivationType::f16, x[i] * 30);
  const std::vector<std::byte> blocks = random_blocks(random, type, shape);
  const reference::ReferenceWeight weight(
      {.name = "w",
       .segments = {{type.dtype, Shape{int64_t(shape.n), int64_t(shape.k)}, blocks}}});
  std::vector<float> wanted(size_t{shape.m} * shape.n);
  reference::linear({x.data(), int(shape.m), int(shape.k), int(shape.k)}, weight, {},
                    {wanted.data(), int(shape.m), int(shape.n), int(shape.n)});
  const QuantizedNz packed = pack_quantized(type.dtype, blocks, shape.n, shape.k);
  DeviceMemory device;
  const ActivationType out_type = out_floats ? ActivationType::f32 : ActivationType::f16;
  const uint64_t out = device.reserve(wanted.size() * element_bytes(out_type));
  const QuantizedLinearPlan plan = plan_quantized_linear(
      soc(), {shape.m, shape.n, shape.k, shape.k, shape.n, LinearTiling::nz, out_floats},
      quantized_format(type.dtype));
  launch(device, plan.kernel, plan.block_dim, device.store(ActivationType::f16, x),
         device.store(packed.codes), device.store(packed.scales), out,
         device.reserve(plan.workspace_bytes), device.store_tiling(plan.tiling));
  // For few rows x is rounded to 2^-16 of its group's largest. For many, values round to half; where
  // scales have two levels or there are minima, these did so before.
  const bool few = std::string(plan.kernel).ends_with("few_rows");
  const double of_weight = few                                      ? 0x1p-13
                           : quantized_format(type.dtype).has_scales ? 0x1p-10
                           : type.minimum_at >= 0                    ? 0x1p-10
                                                                     : 0x1p-11;
  expect_close(device.load(out_type, out, wanted.size()), wanted, shape.n,
               linear_tolerance(out_type, shape.k) + of_weight, what);
}

TEST_P(QuantizedLinear, MultipliesEveryQuantisedType) {
  for (const QuantizedCase& type : quantized_types) {
    const bool is_super = traits(type.dtype).block_elements == 256;
    const std::vector<LinearCase> shapes =
        is_super ? std::vector<LinearCase>{{1, 16, 256}, {2, 200, 768}, {3, 100, 256}, {17, 40, 512}}
                 : std::vector<LinearCase>{{1, 16, 32}, {1, 100, 96}, {2, 200, 1088}, {5, 300, 352}};
    for (const LinearCase& shape : shapes) {
      check(type, shape, /*out_floats=*/shape.m != 1);
      if (HasFailure()) return;
    }
  }
}

// Several tiles for each core, and rings of slots that go round.
TEST_P(QuantizedLinear, MultipliesMatricesOfManyTiles) {
  const std::vector<std::pair<int, LinearCase>> shapes = {
      {0, {1, 6700, 1312}}, {4, {2, 1700, 1312}}, {0, {130, 300, 288}}, {7, {130, 300, 512}}};
  for (const auto& [type, shape] : shapes) {
    check(quantized_types[size_t(type)], shape, /*out_floats=*/true);
    if (HasFailure()) return;
  }
}

// As the reference dequantises, bit for bit; rows of more than a step of the kernel among them.
TEST_P(QuantizedLinear, GathersRowsOfTablesOfEveryQuantisedType) {
  for (const QuantizedCase& type : quantized_types) {
    const auto block = static_cast<uint32_t>(traits(type.dtype).block_elements);
    for (const uint32_t columns : {block, 3 * block, 2048 + block}) {
      const std::string what = std::string(name(type.dtype)) + " of " + std::to_string(columns);
      SCOPED_TRACE(what);
      const uint32_t words = 9;
      const std::vector<std::byte> blocks = random_blocks(random, type, {1, words, columns});
      const std::vector<int32_t> ids = {8, 0, 3, 3, 7};
      const auto tokens = static_cast<uint32_t>(ids.size());
      const uint32_t stride = columns + 5;
      std::vector<float> wanted(tokens * columns);
      for (uint32_t t = 0; t < tokens; ++t) {
        const size_t size = row_bytes(type.dtype, columns);
        dequantize_row(type.dtype, std::span(blocks).subspan(static_cast<size_t>(ids[t]) * size, size),
                       std::span(wanted).subspan(t * columns, columns));
      }
      DeviceMemory device;
      const std::vector<float> before(tokens * stride, 0.25f);
      const uint64_t out = device.store(before);
      const auto plan = plan_embed_quantized(
          soc(), table_row(quantized_format(type.dtype), columns), tokens, columns, stride);
      launch(device, "ridge_embed_quantized", plan.block_dim, device.store(ids),
             device.store(pack_table(type.dtype, blocks, words, columns)), out,
             device.store_tiling(plan.tiling));
      const std::vector<float> got = device.load<float>(out, before.size());
      for (uint32_t t = 0; t < tokens; ++t) {
        for (uint32_t i = 0; i < stride; ++i) {
          ASSERT_EQ(got[t * stride + i], i < columns ? wanted[t * columns + i] : 0.25f)
              << "token " << t << ", column " << i;
        }
      }
    }
  }
}

INSTANTIATE_FOR_SETTINGS(LinearKernel);
INSTANTIATE_FOR_SETTINGS(QuantizedLinear);

}  // namespace

}  // namespace ridge::backend::ascend
