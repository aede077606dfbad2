#include "backend/ascend/kernel_steps.h"
#include "backend/ascend/kernel_test.h"
#include "backend/ascend/twin/shared_rate.h"

// What a launch's time is made of: pipes that wait for each other or do not, memory that cores share,
// lines that L2 still has.
namespace {

using namespace AscendC;
using ridge::backend::ascend::global;

constexpr uint32_t piece = 8192;  // floats: 32 KiB

// Copies pieces and works on each, with so many buffers.
void copy_and_add(GM_ADDR x, uint64_t buffers, uint64_t pieces) {
  TPipe pipe;
  TQue<TPosition::VECIN, 2> queue;
  TBuf<TPosition::VECCALC> sums, gap;
  pipe.InitBuffer(queue, static_cast<uint8_t>(buffers), piece * 4);
  // So that sums have the same banks with one buffer as with two.
  if (buffers == 1) pipe.InitBuffer(gap, piece * 4);
  pipe.InitBuffer(sums, piece * 4);
  LocalTensor<float> sum = sums.Get<float>();
  for (uint64_t i = 0; i < pieces; ++i) {
    LocalTensor<float> part = queue.AllocTensor<float>();
    DataCopy(part, global<float>(x)[i * piece], piece);
    queue.EnQue(part);
    part = queue.DeQue<float>();
    for (int times = 0; times < 3; ++times) {
      Adds(sum, part, 1.0f, piece);
      PipeBarrier<PIPE_V>();
    }
    queue.FreeTensor(part);
  }
}

// Each core reads `pieces` of its own, `passes` times.
void read_own(GM_ADDR x, uint64_t pieces, uint64_t passes) {
  TPipe pipe;
  TQue<TPosition::VECIN, 2> queue;
  pipe.InitBuffer(queue, 2, piece * 4);
  const uint64_t first = GetBlockIdx() * pieces;
  for (uint64_t i = 0; i < pieces * passes; ++i) {
    LocalTensor<float> part = queue.AllocTensor<float>();
    DataCopy(part, global<float>(x)[(first + i % pieces) * piece], piece);
    queue.EnQue(part);
    part = queue.DeQue<float>();
    queue.FreeTensor(part);
  }
}

}  // namespace

namespace ridge::backend::ascend {

namespace {

constexpr uint64_t mib = uint64_t{1} << 20;

class Timeline : public testing::Test {
 protected:
  template <typename... Arguments>
  twin::LaunchReport count(void (*kernel)(Arguments...), uint32_t blocks,
                           std::type_identity_t<Arguments>... arguments) {
    twin::LaunchOptions options;
    options.soc = &soc;
    options.memory = &device.memory();
    options.count_only = true;
    options.timeline = true;
    const twin::LaunchReport report =
        twin::launch(twin::make_kernel("test", twin::CoreType::aiv_only, kernel), blocks,
                     twin::pack_arguments(arguments...), options);
    EXPECT_TRUE(report.ok()) << report.text();
    return report;
  }
  GM_ADDR reserve(uint64_t bytes) { return reinterpret_cast<GM_ADDR>(device.reserve(bytes)); }

  const Soc& soc = find_soc("910B2");
  DeviceMemory device;
};

double busy(const twin::LaunchReport& report, twin::Pipe pipe) {
  return report.vector_busiest_us[static_cast<int>(pipe)];
}

TEST_F(Timeline, ASecondBufferLetsCopiesRunBesideArithmetic) {
  constexpr uint64_t pieces = 32;
  const GM_ADDR x = reserve(pieces * piece * 4);
  const twin::LaunchReport one = count(&copy_and_add, 1, x, 1, pieces);
  const twin::LaunchReport two = count(&copy_and_add, 1, x, 2, pieces);
  const double copies = busy(one, twin::Pipe::mte2), sums = busy(one, twin::Pipe::v);
  EXPECT_DOUBLE_EQ(copies, busy(two, twin::Pipe::mte2));
  EXPECT_NEAR(one.microseconds, copies + sums, 0.05 * (copies + sums));
  // The first copy comes before all sums, or the last sums after all copies.
  EXPECT_NEAR(two.microseconds, std::max(copies, sums), std::min(copies, sums) / pieces + 1);
  EXPECT_GT(std::min(copies, sums), 0.2 * std::max(copies, sums)) << "the test says nothing";
}

TEST_F(Timeline, SpansLieInTheLaunchAndPipesDoOneThingAtATime) {
  const twin::LaunchReport report = count(&copy_and_add, 4, reserve(4 * mib), 2, 32);
  std::map<twin::Pipe, double> end;
  uint32_t copies = 0;
  for (const twin::PipeSpan& span : report.timeline) {
    EXPECT_GE(span.begin_us, end[span.pipe] - 1e-9);
    EXPECT_LE(span.end_us, report.microseconds + 1e-9);
    end[span.pipe] = span.end_us;
    if (span.pipe == twin::Pipe::mte2) copies += span.instructions;
    EXPECT_TRUE(span.place.starts_with("timeline_test.cc:")) << span.place;
  }
  EXPECT_EQ(copies, 32u);  // of block 0
}

TEST_F(Timeline, CoresShareHbm) {
  constexpr uint64_t pieces = 256;  // 8 MiB a core
  const GM_ADDR x = reserve(48 * pieces * piece * 4);
  const twin::LaunchReport one = count(&read_own, 1, x, pieces, 1);
  const twin::LaunchReport all = count(&read_own, 48, x, pieces, 1);
  EXPECT_EQ(one.traffic.hbm_bytes, pieces * piece * 4);
  EXPECT_EQ(all.traffic.hbm_bytes, 48 * pieces * piece * 4);
  EXPECT_NEAR(one.microseconds, busy(one, twin::Pipe::mte2), 0.02 * one.microseconds);
  EXPECT_NEAR(all.microseconds, all.hbm_us, 0.02 * all.hbm_us);
  EXPECT_GT(all.microseconds, 3 * busy(all, twin::Pipe::mte2));
}

TEST_F(Timeline, L2HasWhatWasReadLastAndNotMore) {
  // 96 MiB of all cores fit into 192 MiB, 384 do not.
  constexpr uint64_t small = 64, large = 256;
  const GM_ADDR x = reserve(48 * large * piece * 4);
  const twin::LaunchReport again = count(&read_own, 48, x, small, 3);
  EXPECT_EQ(again.traffic.hbm_bytes, 96 * mib);
  EXPECT_EQ(again.traffic.moved_bytes, 3 * 96 * mib);
  const twin::LaunchReport anew = count(&read_own, 48, x, large, 3);
  EXPECT_EQ(anew.traffic.hbm_bytes, 3 * 384 * mib);
  EXPECT_GT(anew.microseconds / (3 * 384), 1.5 * again.microseconds / (3 * 96));
}

TEST(SharedRate, GivesNoMoreThanItHasInWhicheverOrderItIsAsked) {
  twin::SharedRate shared(10);  // bytes a cycle
  EXPECT_DOUBLE_EQ(shared.serve(0, 0), 0);
  EXPECT_DOUBLE_EQ(shared.serve(100, 1000), 200);
  // What is asked for later and comes first takes nothing from what begins before it.
  EXPECT_NEAR(shared.serve(1'000'000, 100'000), 1'010'000, 512);
  EXPECT_NEAR(shared.serve(10'000, 100'000), 20'000, 512);
  // Both begin at once: the second waits for the first.
  EXPECT_NEAR(shared.serve(500'000, 50'000), 505'000, 512);
  EXPECT_NEAR(shared.serve(500'000, 50'000), 510'000, 512);
  // Behind a queue of ten, at its end.
  for (int i = 0; i < 10; ++i) shared.serve(2'000'000, 10'000);
  EXPECT_NEAR(shared.serve(2'000'000, 10'000), 2'011'000, 512);
  shared.reset();
  EXPECT_NEAR(shared.serve(2'000'000, 10'000), 2'001'000, 512);
}

}  // namespace

}  // namespace ridge::backend::ascend
