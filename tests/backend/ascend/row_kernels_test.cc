#include "backend/ascend/kernel_test.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"

namespace ridge::backend::ascend {

namespace {

using RowKernels = KernelTest;

reference::Rows32 rows_of(std::vector<float>& values, int rows, int columns) {
  return {values.data(), rows, columns, columns};
}

// Below, at and beyond blocks of 32 bytes and repeats of 256; the last two are models' own.
constexpr uint32_t widths[] = {1, 7, 16, 31, 64, 100, 576, 4096};
constexpr uint32_t row_counts[] = {1, 3, 50, 131};

TEST_P(RowKernels, RmsNorm) {
  for (const ActivationType type : activation_types) {
    for (const uint32_t columns : widths) {
      for (const uint32_t rows : row_counts) {
        if (columns > 1000 && rows > 3) continue;
        const std::string what = suffix(type) + " " + std::to_string(rows) + " x " +
                                 std::to_string(columns);
        SCOPED_TRACE(what);
        std::vector<float> x = rounded(type, random_floats(random, size_t{rows} * columns));
        const std::vector<float> weight = random_floats(random, columns);
        std::vector<float> wanted(x.size());
        reference::rms_norm(rows_of(x, rows, columns), weight, 1e-5f,
                            rows_of(wanted, rows, columns));

        DeviceMemory device;
        const uint64_t out = device.reserve(x.size() * element_bytes(type));
        const auto plan = plan_rms_norm(
            soc(), {{rows, columns, element_bytes(type)}, columns, 0, columns, 1e-5f, false});
        launch(device, "ridge_rms_norm_" + suffix(type), plan.block_dim, device.store(type, x),
               device.store(weight), out, device.store_tiling(plan.tiling));
        expect_close(device.load(type, out, x.size()), wanted, columns, tolerance(type), what);
        if (HasFatalFailure() || HasNonfatalFailure()) return;
      }
    }
  }
}

TEST_P(RowKernels, AddRmsNormUpdatesTheResidual) {
  for (const ActivationType type : activation_types) {
    for (const uint32_t columns : widths) {
      const uint32_t rows = columns > 1000 ? 3 : 61;
      const std::string what = suffix(type) + " " + std::to_string(columns);
      SCOPED_TRACE(what);
      std::vector<float> x = rounded(type, random_floats(random, size_t{rows} * columns));
      std::vector<float> residual = rounded(type, random_floats(random, x.size()));
      const std::vector<float> weight = random_floats(random, columns);

      DeviceMemory device;
      const uint64_t out = device.reserve(x.size() * element_bytes(type));
      const uint64_t residual_address = device.store(type, residual);
      const auto plan = plan_rms_norm(
          soc(), {{rows, columns, element_bytes(type)}, columns, columns, columns, 1e-6f, true});
      launch(device, "ridge_add_rms_norm_" + suffix(type), plan.block_dim, device.store(type, x),
             residual_address, device.store(weight), out, device.store_tiling(plan.tiling));

      reference::add(rows_of(residual, rows, columns), rows_of(x, rows, columns),
                     rows_of(residual, rows, columns));
      residual = rounded(type, residual);
      // One rounding of an exact sum: not one bit may differ.
      EXPECT_EQ(device.load(type, residual_address, x.size()), residual) << what;
      std::vector<float> wanted(x.size());
      reference::rms_norm(rows_of(residual, rows, columns), weight, 1e-6f,
                          rows_of(wanted, rows, columns));
      expect_close(device.load(type, out, x.size()), wanted, columns, tolerance(type), what);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST_P(RowKernels, RmsNormOfASliceOfWiderRows) {
  const uint32_t rows = 50, columns = 100, stride = 117;
  std::vector<float> x = rounded(ActivationType::f16, random_floats(random, rows * stride));
  const std::vector<float> weight = random_floats(random, columns);
  std::vector<float> wanted(rows * columns);
  reference::rms_norm({x.data() + 5, int(rows), int(columns), int(stride)}, weight, 1e-5f,
                      rows_of(wanted, rows, columns));
  DeviceMemory device;
  const uint64_t out = device.reserve(wanted.size() * 2);
  const auto plan = plan_rms_norm(soc(), {{rows, columns, 2}, stride, 0, columns, 1e-5f, false});
  launch(device, "ridge_rms_norm_f16", plan.block_dim,
         device.store(ActivationType::f16, x) + 5 * 2, device.store(weight), out,
         device.store_tiling(plan.tiling));
  expect_close(device.load(ActivationType::f16, out, wanted.size()), wanted, columns,
               tolerance(ActivationType::f16), "slice");
}

TEST_P(RowKernels, GatedActivation) {
  const std::pair<GatedActivationTiling::Kind, Activation> kinds[] = {
      {GatedActivationTiling::silu, Activation::silu},
      {GatedActivationTiling::gelu_tanh, Activation::gelu_tanh},
      {GatedActivationTiling::swiglu_oai, Activation::swiglu_oai}};
  for (const ActivationType type : activation_types) {
    for (const auto& [kind, reference_kind] : kinds) {
      for (const uint32_t columns : widths) {
        for (const uint32_t groups : {1u, 2u}) {
          const uint32_t rows = columns > 1000 ? 2 : 53;
          const std::string what = suffix(type) + " kind " + std::to_string(kind) + " " +
                                   std::to_string(columns) + " x " + std::to_string(groups);
          SCOPED_TRACE(what);
          const uint32_t wide = groups * 2 * columns, narrow = groups * columns;
          std::vector<float> x = random_floats(random, size_t{rows} * wide, 3.0f);
          // Large enough to saturate the exponential on both sides and to meet the clamps.
          for (size_t i = 0; i < x.size(); i += 7) x[i] *= 13;
          x = rounded(type, x);
          std::vector<float> wanted(size_t{rows} * narrow);
          reference::gated_activation(rows_of(x, rows, wide), reference_kind, int(groups),
                                      rows_of(wanted, rows, narrow));
          DeviceMemory device;
          const uint64_t out = device.reserve(wanted.size() * element_bytes(type));
          const auto plan = plan_gated_activation(
              soc(), {{rows, columns, element_bytes(type)}, groups, wide, narrow, kind});
          launch(device, "ridge_gated_activation_" + suffix(type), plan.block_dim,
                 device.store(type, x), out, device.store_tiling(plan.tiling));
          expect_close(device.load(type, out, wanted.size()), wanted, narrow, tolerance(type),
                       what);
          if (HasFatalFailure() || HasNonfatalFailure()) return;
        }
      }
    }
  }
}

INSTANTIATE_FOR_SETTINGS(RowKernels);

}  // namespace

}  // namespace ridge::backend::ascend
