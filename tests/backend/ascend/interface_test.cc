#include "backend/ascend/kernel_steps.h"
#include "backend/ascend/kernel_test.h"

// What the interface means where our kernels do not reach: masks and strides, indices of reductions,
// the int8 cube, sums in global memory, barriers of all cores, counters.
namespace {

using namespace AscendC;
using ridge::backend::ascend::global;
using ridge::backend::ascend::pass;

// Of 256 floats: 10 elements of each of 2 repeats, the second one 12 blocks on.
void masked_add(GM_ADDR x, GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> in, sums;
  pipe.InitBuffer(in, 1024);
  pipe.InitBuffer(sums, 1024);
  LocalTensor<float> a = in.Get<float>(), b = sums.Get<float>();
  DataCopy(a, global<float>(x), 256);
  Duplicate(b, 0.0f, 256);
  pass<HardEvent::MTE2_V>();
  PipeBarrier<PIPE_V>();
  Add(b, a, a, uint64_t{10}, 2, BinaryRepeatParams{2, 1, 1, 12, 8, 8});
  pass<HardEvent::V_MTE3>();
  DataCopy(global<float>(out), b, 256);
}

// 40 halves of each of 2 repeats, block by block: those of the second one block behind those of the first.
void strided_cast(GM_ADDR x, GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> in, halves;
  pipe.InitBuffer(in, 512);
  pipe.InitBuffer(halves, 384);
  LocalTensor<float> a = in.Get<float>();
  LocalTensor<half> b = halves.Get<half>();
  DataCopy(a, global<float>(x), 128);
  Duplicate(b, half(0.0f), 192);
  pass<HardEvent::MTE2_V>();
  PipeBarrier<PIPE_V>();
  Cast(b, a, RoundMode::CAST_RINT, uint64_t{40}, 2, UnaryRepeatParams{3, 1, 1, 8});
  pass<HardEvent::V_MTE3>();
  DataCopy(global<half>(out), b, 192);
}

void largest_with_index(GM_ADDR x, GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> in, result, work;
  pipe.InitBuffer(in, 1024);
  pipe.InitBuffer(result, 64);
  pipe.InitBuffer(work, 64);
  LocalTensor<float> a = in.Get<float>(), largest = result.Get<float>();
  DataCopy(a, global<float>(x), 256);
  Duplicate(largest, 0.0f, 16);
  pass<HardEvent::MTE2_V>();
  PipeBarrier<PIPE_V>();
  ReduceMax(largest, a, work.Get<float>(), 200, true);
  WholeReduceMax(largest[8], a, 64, 2, 1, 1, 8);
  pass<HardEvent::V_MTE3>();
  DataCopy(global<float>(out), largest, 16);
}

// out[16, 16] = x[16, 32] W[16, 32]ᵀ of int8, times 0.5, as halves.
void int8_cube(GM_ADDR x, GM_ADDR out) {
  TPipe pipe;
  TQue<TPosition::A1, 1> a1;
  TQue<TPosition::B1, 1> b1;
  TQue<TPosition::A2, 1> a2;
  TQue<TPosition::B2, 1> b2;
  TQue<TPosition::CO1, 1> c1;
  pipe.InitBuffer(a1, 1, 512);
  pipe.InitBuffer(b1, 1, 512);
  pipe.InitBuffer(a2, 1, 512);
  pipe.InitBuffer(b2, 1, 512);
  pipe.InitBuffer(c1, 1, 1024);
  const auto load = [&](auto& first, auto& second, uint32_t at) {
    LocalTensor<int8_t> tile = first.template AllocTensor<int8_t>();
    DataCopy(tile, global<int8_t>(x)[at], 512);
    first.EnQue(tile);
    tile = first.template DeQue<int8_t>();
    LocalTensor<int8_t> fractal = second.template AllocTensor<int8_t>();
    LoadData(fractal, tile, LoadData2DParams(0, 1, 1, 0, 0, false, 0));
    second.EnQue(fractal);
    first.FreeTensor(tile);
  };
  load(a1, a2, 0);
  load(b1, b2, 512);
  LocalTensor<int8_t> a = a2.DeQue<int8_t>(), b = b2.DeQue<int8_t>();
  LocalTensor<int32_t> c = c1.AllocTensor<int32_t>();
  Mmad(c, a, b, MmadParams(16, 16, 32, 0, false, true));
  a2.FreeTensor(a);
  b2.FreeTensor(b);
  c1.EnQue(c);
  c = c1.DeQue<int32_t>();
  FixpipeParamsV220 params;
  params.nSize = params.mSize = params.srcStride = 16;
  params.dstStride = 16;
  params.quantPre = DEQF16;
  params.deqScalar = 0x3f000000;  // 0.5f
  Fixpipe<half, int32_t, CFG_ROW_MAJOR>(global<half>(out), c, params);
  c1.FreeTensor(c);
}

// Every core adds its number to the same 8 floats.
void add_together(GM_ADDR, GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 32);
  LocalTensor<float> mine = buffer.Get<float>();
  Duplicate(mine, static_cast<float>(GetBlockIdx()), 8);
  pass<HardEvent::V_MTE3>();
  SetAtomicAdd<float>();
  DataCopy(global<float>(out), mine, 8);
  SetAtomicNone();
}

// Every core writes its part and, after all have, gives back its neighbour's.
void meet(GM_ADDR x, GM_ADDR out) {
  TPipe pipe;
  TBuf<TPosition::VECCALC> buffer;
  pipe.InitBuffer(buffer, 32);
  LocalTensor<float> mine = buffer.Get<float>();
  Duplicate(mine, static_cast<float>(GetBlockIdx()), 8);
  pass<HardEvent::V_MTE3>();
  DataCopy(global<float>(x)[GetBlockIdx() * 8], mine, 8);
  SyncAll();
  DataCopy(mine, global<float>(x)[(GetBlockIdx() + 1) % GetBlockNum() * 8], 8);
  pass<HardEvent::MTE2_MTE3>();
  DataCopy(global<float>(out)[GetBlockIdx() * 8], mine, 8);
}

}  // namespace

namespace ridge::backend::ascend {

namespace {

class Interface : public testing::TestWithParam<Setting> {
 protected:
  twin::LaunchReport run(void (*kernel)(GM_ADDR, GM_ADDR), twin::CoreType cores, uint64_t x,
                         uint64_t out, uint32_t block_dim = 1) {
    const twin::LaunchReport report =
        twin::launch(twin::make_kernel("test", cores, kernel), block_dim,
                     twin::pack_arguments(x, out), options_of(GetParam(), device));
    EXPECT_TRUE(report.ok()) << report.text();
    return report;
  }
  std::vector<float> counting(size_t count) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
    return values;
  }

  DeviceMemory device;
};

TEST_P(Interface, MasksAndStridesOfTheVectorUnit) {
  const uint64_t out = device.reserve(1024);
  run(masked_add, twin::CoreType::aiv_only, device.store(counting(256)), out);
  const std::vector<float> got = device.load<float>(out, 256);
  std::vector<float> wanted(256, 0.0f);
  for (int repeat = 0; repeat < 2; ++repeat) {
    for (int lane = 0; lane < 10; ++lane) {
      // Blocks of 8 floats: the target's are every second one.
      wanted[repeat * 12 * 8 + lane / 8 * 16 + lane % 8] = 2.0f * float(repeat * 64 + lane);
    }
  }
  EXPECT_EQ(got, wanted);
}

TEST_P(Interface, MasksAndStridesOfCasts) {
  const uint64_t out = device.reserve(384);
  run(strided_cast, twin::CoreType::aiv_only, device.store(counting(128)), out);
  std::vector<float> wanted(192, 0.0f);
  for (int repeat = 0; repeat < 2; ++repeat) {
    for (int lane = 0; lane < 40; ++lane) {
      wanted[(lane / 16 * 3 + repeat) * 16 + lane % 16] = float(repeat * 64 + lane);
    }
  }
  EXPECT_EQ(device.load(ActivationType::f16, out, 192), wanted);
}

TEST_P(Interface, IndicesOfTheLargest) {
  std::vector<float> x = counting(256);
  x[150] = 900;
  x[220] = 1000;  // behind the 200 that count
  x[3] = 500;
  const uint64_t out = device.reserve(64);
  run(largest_with_index, twin::CoreType::aiv_only, device.store(x), out);
  const std::vector<float> got = device.load<float>(out, 16);
  const std::vector<uint32_t> bits = device.load<uint32_t>(out, 16);
  EXPECT_EQ(got[0], 900);
  EXPECT_EQ(bits[1], 150u);
  EXPECT_EQ(got[8], 500);
  EXPECT_EQ(bits[9], 3u);
  EXPECT_EQ(got[10], 127);
  EXPECT_EQ(bits[11], 63u);
}

TEST_P(Interface, TheCubeMultipliesInt8) {
  std::vector<int8_t> x(1024);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int8_t>(i * 37);
  const uint64_t out = device.reserve(512);
  run(int8_cube, twin::CoreType::aic_only, device.store(x), out);
  const std::vector<float> got = device.load(ActivationType::f16, out, 256);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 16; ++column) {
      int sum = 0;
      for (int k = 0; k < 32; ++k) sum += x[row * 32 + k] * x[512 + column * 32 + k];
      EXPECT_EQ(got[row * 16 + column], rounded(ActivationType::f16, 0.5f * float(sum)));
    }
  }
}

TEST_P(Interface, SumsInGlobalMemoryNeedNoOrder) {
  const uint64_t out = device.store(std::vector<float>(8, 1.0f));
  run(add_together, twin::CoreType::aiv_only, device.store(counting(8)), out, 10);
  EXPECT_EQ(device.load<float>(out, 8), std::vector<float>(8, 46.0f));
}

TEST_P(Interface, AllCoresMeet) {
  const uint64_t out = device.reserve(10 * 32);
  run(meet, twin::CoreType::aiv_only, device.reserve(10 * 32), out, 10);
  const std::vector<float> got = device.load<float>(out, 80);
  for (int i = 0; i < 80; ++i) EXPECT_EQ(got[i], float((i / 8 + 1) % 10));
}

TEST_P(Interface, Counters) {
  const uint64_t out = device.reserve(1024);
  const twin::LaunchReport report =
      run(masked_add, twin::CoreType::aiv_only, device.store(counting(256)), out);
  const auto& vector = report.vector[static_cast<int>(twin::Pipe::v)];
  EXPECT_EQ(vector.instructions, 2u);
  EXPECT_EQ(vector.repeats, 4u + 2u);
  const auto& in = report.vector[static_cast<int>(twin::Pipe::mte2)];
  EXPECT_EQ(in.bytes, 1024u);
  EXPECT_EQ(in.lines_512, 2u);
  EXPECT_EQ(report.cores, 1u);
  EXPECT_GT(report.microseconds, 0);
}

INSTANTIATE_FOR_SETTINGS(Interface);

}  // namespace

}  // namespace ridge::backend::ascend
