#include "backend/arrays.h"
#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"

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

// Blocks of a GGUF tensor with scales of both signs and every code.
std::vector<std::byte> random_blocks(std::mt19937& random, DType dtype, const LinearCase& shape) {
  const size_t block_bytes = dtype == DType::q8_0 ? 34 : 18;
  std::vector<std::byte> bytes(size_t{shape.n} * shape.k / 32 * block_bytes);
  for (std::byte& byte : bytes) byte = std::byte(random());
  const float size = (dtype == DType::q8_0 ? 1.0f / 73 : 1.0f / 5) / std::sqrt(float(shape.k));
  std::normal_distribution<float> normal(0, size);
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    const uint16_t scale = f32_to_f16(normal(random));
    std::memcpy(bytes.data() + at, &scale, 2);
  }
  return bytes;
}

TEST_P(LinearKernel, MultipliesGroupsOf32) {
  const std::vector<LinearCase> quantized_cases = {{1, 16, 32},    {1, 100, 64},   {1, 576, 1536},
                                                   {3, 600, 320},  {17, 40, 96},   {130, 300, 288}};
  for (const DType dtype : {DType::q8_0, DType::q4_0}) {
    for (const LinearCase& shape : quantized_cases) {
      const std::string kernel =
          std::string("ridge_linear_") + (dtype == DType::q8_0 ? "q8_0" : "q4_0");
      const std::string what = kernel + " " + std::to_string(shape.m) + " x " +
                               std::to_string(shape.n) + " x " + std::to_string(shape.k);
      SCOPED_TRACE(what);
      std::vector<float> x =
          rounded(ActivationType::f16, random_floats(random, size_t{shape.m} * shape.k));
      const std::vector<std::byte> blocks = random_blocks(random, dtype, shape);
      const reference::ReferenceWeight weight(
          {.name = "w",
           .segments = {{dtype, Shape{int64_t(shape.n), int64_t(shape.k)}, blocks}}});
      std::vector<float> wanted(size_t{shape.m} * shape.n);
      reference::linear({x.data(), int(shape.m), int(shape.k), int(shape.k)}, weight, {},
                        {wanted.data(), int(shape.m), int(shape.n), int(shape.n)});
      const QuantizedNz packed = dtype == DType::q8_0 ? pack_q8_0(blocks, shape.n, shape.k)
                                                      : pack_q4_0(blocks, shape.n, shape.k);
      DeviceMemory device;
      const uint64_t out = device.reserve(wanted.size() * 2);
      const auto plan = plan_quantized_linear(
          soc(), {shape.m, shape.n, shape.k, shape.k, shape.n, LinearTiling::nz});
      launch(device, kernel, plan.block_dim, device.store(ActivationType::f16, x),
             device.store(packed.codes), device.store(packed.scales), out,
             device.reserve(plan.workspace_bytes), device.store_tiling(plan.tiling));
      // Each weight, code times scale, rounds to half once, as does out.
      expect_close(device.load(ActivationType::f16, out, wanted.size()), wanted, shape.n,
                   linear_tolerance(ActivationType::f16, shape.k) + 0x1p-11, what);
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_FOR_SETTINGS(LinearKernel);

}  // namespace

}  // namespace ridge::backend::ascend
