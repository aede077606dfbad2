#include "backend/ascend/acl/kernel.h"

#include <cmath>
#include <numeric>

#include "backend/ascend/acl/fixture.h"
#include "backend/ascend/tiling.h"
#include "base/temporary_folder.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AclKernel : public AclTest {};

TEST_F(AclKernel, GetsItsArgumentsAndBlocksByEitherCall) {
  for (const bool has_newer_call : {true, false}) {
    const auto library = has_newer_call ? twin_library()
                                        : twin_library_without({"aclrtLaunchKernelWithHostArgs"});
    const auto own = std::make_shared<acl::Context>(
        std::make_shared<acl::Device>(std::make_shared<acl::Runtime>(library), 0));
    std::mutex mutex;
    std::vector<std::vector<uint64_t>> calls;
    twin_acl::add_kernel(host_kernel("noted", 3, [&](const std::vector<uint64_t>& arguments) {
      const std::lock_guard lock(mutex);
      calls.push_back(arguments);
    }));
    const acl::Kernel noted(std::make_shared<acl::Binary>(own, twin_acl::kernels_path), "noted");
    const acl::DeviceMemory memory(own, 64);
    acl::Stream stream(own);
    acl::KernelArguments arguments;
    arguments.add(memory.span().part(32, 8)).add(int64_t{-5}).add(uint64_t{7});
    acl::launch(stream, noted, arguments, {.blocks = 4});
    stream.synchronize();
    ASSERT_EQ(calls.size(), 4u) << has_newer_call;
    for (const auto& call : calls) {
      EXPECT_THAT(call, ElementsAre(memory.span().address + 32, static_cast<uint64_t>(-5), 7));
    }
  }
}

TEST_F(AclKernel, RunsAfterWhatWasQueuedBefore) {
  std::vector<uint64_t> order;
  twin_acl::add_kernel(
      host_kernel("noted", 1, [&](const auto& arguments) { order.push_back(arguments[0]); }));
  const acl::Kernel noted = kernel("noted");
  acl::Stream stream(context());
  for (uint64_t i = 0; i < 50; ++i) {
    acl::launch(stream, noted, acl::KernelArguments().add(i), {.blocks = 1});
  }
  stream.synchronize();
  ASSERT_EQ(order.size(), 50u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(AclKernel, StartsTogetherOnlyWhatHasCores) {
  std::atomic<int> ran = 0;
  twin_acl::add_kernel(host_kernel("counted", 0, [&](const auto&) { ++ran; }));
  const acl::Kernel counted = kernel("counted");
  acl::Stream stream(context());
  acl::launch(stream, counted, {}, {.blocks = 48, .starts_together = true});
  stream.synchronize();
  EXPECT_EQ(ran, 48);
  const Error error = error_of(
      [&] { acl::launch(stream, counted, {}, {.blocks = 49, .starts_together = true}); });
  EXPECT_THAT(std::string(error.message()),
              HasSubstr("start 49 blocks together, and Ascend910B2 has 48 cores for it"));
  acl::launch(stream, counted, {}, {.blocks = 49});
  stream.synchronize();
  EXPECT_EQ(ran, 97);
}

TEST_F(AclKernel, ThatIsNotThereIsTold) {
  const Error error = error_of([&] { kernel("rms_nrom"); });
  EXPECT_EQ(error.code(), ErrorCode::not_found);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("of kernel rms_nrom in ascend-twin:kernels"),
                    HasSubstr("is called 'rms_nrom'")));
}

TEST_F(AclKernel, BinariesThatDoNotDoAreTold) {
  const TemporaryFolder folder;
  const std::string path = folder.write("kernels.o", "ELF").string();
  for (const auto& [name, reason] :
       {std::pair(path, "is not for the twin"), std::pair(path + "x", "is not there")}) {
    const Error error = error_of([&] { acl::Binary(context(), name); });
    EXPECT_EQ(error.code(), ErrorCode::invalid_file);
    EXPECT_THAT(std::string(error.message()),
                AllOf(HasSubstr("of kernels in " + name), HasSubstr(reason)));
  }
}

TEST_F(AclKernel, PathsOfBinariesAreAbsolute) {
  const Error error = error_of([&] { acl::Binary(context(), "kernels.o"); });
  EXPECT_THAT(std::string(error.message()), HasSubstr("kernels.o is no absolute path"));
}

TEST_F(AclKernel, IsGivenAsManyArgumentsAsItTakes) {
  twin_acl::add_kernel(host_kernel("two", 2, [](const auto&) {}));
  const acl::Kernel two = kernel("two");
  acl::Stream stream(context());
  const Error error =
      error_of([&] { acl::launch(stream, two, acl::KernelArguments().add(uint64_t{1}), {}); });
  EXPECT_THAT(std::string(error.message()),
              HasSubstr("two takes 2 arguments of 8 bytes, and was given 8 bytes"));
}

TEST_F(AclKernel, OutlivesTheHandleOfItsBinary) {
  std::atomic<int> ran = 0;
  twin_acl::add_kernel(host_kernel("counted", 0, [&](const auto&) { ++ran; }));
  auto binary = std::make_shared<acl::Binary>(context(), twin_acl::kernels_path);
  const acl::Kernel counted(binary, "counted");
  binary.reset();
  acl::Stream stream(context());
  acl::launch(stream, counted, {}, {});
  stream.synchronize();
  EXPECT_EQ(ran, 1);
}

// Two rows of eight, as the host would have them normalised.
class AclRmsNorm : public AclKernel {
 protected:
  void run(uint64_t out_address) {
    const auto plan = plan_rms_norm(find_soc("910B2"), {{rows, columns, sizeof(float)}, columns, 0,
                                                        columns, epsilon, /*adds=*/false});
    const acl::DeviceMemory x(context(), bytes), weight(context(), columns * sizeof(float));
    const acl::DeviceMemory tiling(context(), sizeof plan.tiling);
    acl::upload(*context(), x.span(), std::as_bytes(std::span(x_)));
    acl::upload(*context(), weight.span(), std::as_bytes(std::span(weight_)));
    acl::upload(*context(), tiling.span(), std::as_bytes(std::span(&plan.tiling, 1)));
    const acl::Kernel rms_norm = kernel("ridge_rms_norm_f32");
    acl::Stream stream(context());
    acl::KernelArguments arguments;
    arguments.add(x.span()).add(weight.span()).add(out_address).add(tiling.span());
    acl::launch(stream, rms_norm, arguments, {.blocks = plan.block_dim});
    stream.synchronize();
  }

  static constexpr uint32_t rows = 2, columns = 8;
  static constexpr size_t bytes = rows * columns * sizeof(float);
  static constexpr float epsilon = 1e-5f;
  std::vector<float> x_ = std::vector<float>(rows * columns), weight_{1, 2, 3, 4, 5, 6, 7, 8};
};

TEST_F(AclRmsNorm, RunsFromMemoryToMemory) {
  std::iota(x_.begin(), x_.end(), -7.f);
  const acl::DeviceMemory out(context(), bytes);
  run(out.span().address);
  std::vector<float> got(rows * columns);
  acl::download(*context(), std::as_writable_bytes(std::span(got)), out.span());
  for (uint32_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (uint32_t i = 0; i < columns; ++i) sum += std::pow(x_[row * columns + i], 2);
    for (uint32_t i = 0; i < columns; ++i) {
      const double wanted =
          x_[row * columns + i] / std::sqrt(sum / columns + epsilon) * weight_[i];
      EXPECT_NEAR(got[row * columns + i], wanted, 1e-5 * std::abs(wanted) + 1e-6);
    }
  }
}

TEST_F(AclRmsNorm, ThatWritesWhereNothingIsIsToldWithItsLine) {
  uint64_t gone = 0;
  {
    const acl::DeviceMemory out(context(), bytes);
    gone = out.span().address;
  }
  const Error error = error_of([&] { run(gone); });
  EXPECT_EQ(error.code(), ErrorCode::internal);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("kernel ridge_rms_norm_f32: [bounds] "), HasSubstr(".cc:")));
}

TEST_F(AclKernel, IsObserved) {
  twin_acl::add_kernel(host_kernel("idle", 0, [](const auto&) {}));
  const acl::Kernel idle = kernel("idle");
  std::vector<std::string> seen;
  twin_acl::observe_launches([&](const twin::KernelImage& image, uint32_t blocks,
                                 const std::shared_ptr<const twin::LaunchReport>& report) {
    seen.push_back(fmt::format("{} on {} blocks, {} cores", image.name, blocks, report->cores));
  });
  {
    acl::Stream stream(context());
    acl::launch(stream, idle, {}, {.blocks = 3});
  }
  twin_acl::observe_launches({});
  EXPECT_THAT(seen, ElementsAre("idle on 3 blocks, 3 cores"));
}

}  // namespace
}  // namespace ridge::backend::ascend
