#include <fstream>
#include <set>

#include "backend/ascend/broken_kernels.h"
#include "backend/ascend/kernel_test.h"
#include "base/error.h"

// Each broken kernel is caught, with the kind of its fault and the line that has it.
namespace ridge::backend::ascend {

namespace {

using Kind = twin::Finding::Kind;

twin::KernelImage image_of(const std::string& wanted) {
#define RIDGE_IMAGE(name, cores) \
  if (wanted == #name) return twin::make_kernel(#name, twin::CoreType::cores, &broken_##name);
  RIDGE_BROKEN_KERNELS(RIDGE_IMAGE)
#undef RIDGE_IMAGE
  throw std::runtime_error("there is no broken kernel " + wanted);
}

// The line of the kernel's source that ends in "// fault".
int fault_line(const std::string& name) {
  std::ifstream source(std::string(RIDGE_SOURCE_DIR) + "/tests/backend/ascend/broken_kernels.cc");
  std::string line;
  bool inside = false;
  for (int number = 1; std::getline(source, line); ++number) {
    if (line.starts_with("void broken_")) inside = line.starts_with("void broken_" + name + "(");
    if (inside && line.ends_with("// fault")) return number;
  }
  return 0;
}

struct Ran {
  twin::LaunchReport report;
  std::vector<float> out;
};

Ran run(const std::string& name, const Setting& setting, bool check_order = true,
        uint32_t block_dim = 1) {
  DeviceMemory device;
  std::vector<float> x(1 << 8);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 50);
  // The cube kernels read more.
  if (image_of(name).core_type == twin::CoreType::aic_only) x.resize(2048);
  const uint64_t out = device.reserve(256 * sizeof(half));
  twin::LaunchOptions options = options_of(setting, device);
  options.check_order = check_order;
  Ran ran;
  ran.report =
      twin::launch(image_of(name), block_dim,
                   twin::pack_arguments(device.store(ActivationType::f16, x), out), options);
  ran.out = device.load(ActivationType::f16, out, 256);
  return ran;
}

class BrokenKernels : public testing::TestWithParam<Setting> {
 protected:
  void expect_caught(const std::string& name, Kind kind, const std::string& words,
                     uint32_t block_dim = 1) {
    const twin::LaunchReport report = run(name, GetParam(), true, block_dim).report;
    const int line = fault_line(name);
    ASSERT_GT(line, 0) << name;
    // Of two accesses that nothing orders, either may come second and be the one that is reported;
    // the message has both lines.
    const std::string place = "broken_kernels.cc:" + std::to_string(line);
    for (const twin::Finding& finding : report.findings) {
      EXPECT_TRUE(finding.message.starts_with(finding.file + ":" + std::to_string(finding.line)));
      if (finding.kind == kind && finding.message.find(place) != std::string::npos &&
          finding.message.find(words) != std::string::npos) {
        return;
      }
    }
    ADD_FAILURE() << name << " was not caught at line " << line << " with \"" << words
                  << "\":\n" << report.text();
  }
};

TEST_P(BrokenKernels, ThoseThatAreNotBrokenPass) {
  const Ran whole = run("whole", GetParam());
  EXPECT_TRUE(whole.report.ok()) << whole.report.text();
  for (size_t i = 0; i < whole.out.size(); ++i) EXPECT_EQ(whole.out[i], float(i % 50) + 1);
  const Ran scalar = run("scalar_in_between", GetParam());
  EXPECT_TRUE(scalar.report.ok()) << scalar.report.text();
  EXPECT_EQ(scalar.out, whole.out);
  const Ran cores = run("cores_with_flag", GetParam());
  EXPECT_TRUE(cores.report.ok()) << cores.report.text();
}

TEST_P(BrokenKernels, ARemovedWait) {
  expect_caught("removed_wait", Kind::order, "DataCopy");
  expect_caught("removed_wait_for_the_store", Kind::order, "on MTE3");
}

TEST_P(BrokenKernels, ARemovedBarrier) {
  expect_caught("removed_barrier", Kind::order, "on V");
}

TEST_P(BrokenKernels, ABufferOneBlockTooSmall) {
  expect_caught("small_buffer", Kind::bounds, "512 bytes at offset 0 of a buffer of 480 bytes");
}

TEST_P(BrokenKernels, UnalignedAccesses) {
  expect_caught("unaligned_copy", Kind::alignment, "40 bytes, which is no multiple of 32");
  expect_caught("unaligned_operand", Kind::alignment, "no multiple of 32 bytes");
}

TEST_P(BrokenKernels, UnmatchedFlags) {
  expect_caught("unmatched_flag", Kind::flag, "<MTE3_V>(3), for which nothing waits");
  expect_caught("flag_set_twice", Kind::flag, "a wait belongs between the two");
  expect_caught("wait_without_flag", Kind::deadlock, "<MTE2_V>(0), which nothing sets");
}

TEST_P(BrokenKernels, UndefinedMemory) {
  expect_caught("undefined_read", Kind::undefined, "of which byte 256 was never written");
  expect_caught("padding_read", Kind::undefined, "of which byte 10 was never written");
}

TEST_P(BrokenKernels, MemoryThatIsNotThere) {
  expect_caught("beyond_allocation", Kind::bounds, "an allocation of 512 bytes in GM");
  expect_caught("too_many_buffers", Kind::capacity, "98304 bytes of UB; 98048 of 196352 are left");
}

TEST_P(BrokenKernels, Queues) {
  expect_caught("tensor_not_freed", Kind::queue, "never given back");
  expect_caught("no_free_buffer", Kind::queue, "none of the 1 buffers free");
}

TEST_P(BrokenKernels, Parameters) {
  expect_caught("wrong_type", Kind::parameter, "no form for bfloat16_t");
  expect_caught("overlap", Kind::parameter, "overlap");
  expect_caught("other_cores", Kind::parameter, "other cores");
}

TEST_P(BrokenKernels, TheScalarUnit) {
  expect_caught("scalar_before_vector", Kind::order, "GetValue");
  expect_caught("scalar_store_without_flag", Kind::order, "SetValue");
  expect_caught("cache_not_cleaned", Kind::coherence, "never reaches memory");
}

TEST_P(BrokenKernels, OneRowThatTheCubeTakesAsAVector) {
  expect_caught("row_as_vector", Kind::undefined, "reads");
}

TEST_P(BrokenKernels, SumsOfTheCubeWithoutABarrier) {
  expect_caught("accumulate_without_barrier", Kind::order, "Mmad on M");
}

TEST_P(BrokenKernels, CoresThatDoNotWaitForEachOther) {
  expect_caught("two_cores_one_place", Kind::order, "of another core", /*block_dim=*/2);
  expect_caught("cores_without_flag", Kind::order, "of another core");
  expect_caught("cross_flag_left", Kind::flag, "for which AIC 0 never waits");
  expect_caught("cores_that_wait", Kind::deadlock, "which never comes");
}

INSTANTIATE_FOR_SETTINGS(BrokenKernels);

// Without looking at the order of accesses, a missing wait shows in what is computed, but only where
// pipes run late.
TEST(DelayedSchedule, ChangesWhatAMissingWaitComputes) {
  const std::vector<float> right = run("whole", {"910B2", twin::Schedule::plain, 0}).out;
  for (const char* name : {"removed_wait", "removed_wait_for_the_store", "removed_barrier"}) {
    EXPECT_EQ(run(name, {"910B2", twin::Schedule::plain, 0}, /*check_order=*/false).out, right)
        << name;
    int wrong = 0;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const Setting late{"910B2", twin::Schedule::delayed, seed};
      wrong += run(name, late, /*check_order=*/false).out != right;
      EXPECT_EQ(run("whole", late, /*check_order=*/false).out, right);
    }
    EXPECT_GE(wrong, 10) << name;
  }
}

TEST(DelayedSchedule, IsTheSameForTheSameSeed) {
  const Setting late{"910B2", twin::Schedule::delayed, 5};
  EXPECT_EQ(run("removed_wait", late, /*check_order=*/false).out,
            run("removed_wait", late, /*check_order=*/false).out);
}

TEST(Launches, RefuseWhatTheCallerGetsWrong) {
  DeviceMemory device;
  twin::LaunchOptions options;
  EXPECT_THROW(twin::launch(image_of("whole"), 1, {}, options), Error);
  options.soc = &find_soc("910B2");
  options.memory = &device.memory();
  EXPECT_THROW(twin::launch(image_of("whole"), 1, {}, options), Error);
  EXPECT_THROW(twin::launch(image_of("whole"), 0, twin::pack_arguments(uint64_t{1}, uint64_t{2}),
                            options),
               Error);
  EXPECT_EQ(twin::find_kernel("no such kernel"), nullptr);
}

}  // namespace

}  // namespace ridge::backend::ascend
