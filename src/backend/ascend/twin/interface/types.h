#pragma once

#include <cstdint>
#include <type_traits>

#include "backend/ascend/twin/core.h"
#include "backend/ascend/twin/numbers.h"

// Qualifiers, enumerations and parameters of the AscendC interface (names of CANN 8.1).

#define __global__
#define __aicore__
#define __gm__
using GM_ADDR = __gm__ uint8_t*;

enum pipe_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_FIX, PIPE_ALL };
// How Fixpipe converts.
enum QuantMode_t { NoQuant, F322F16, F322BF16, DEQF16 };

enum KernelMetaType { KERNEL_TYPE_AIV_ONLY, KERNEL_TYPE_AIC_ONLY, KERNEL_TYPE_MIX_AIC_1_2 };
// Says on which cores the kernel runs; the twin checks that it is launched so.
#define KERNEL_TASK_TYPE_DEFAULT(type) ::AscendC::check_core_type(type)

#define ASCEND_IS_AIC (::AscendC::runs_on_cube_core())
#define ASCEND_IS_AIV (!::AscendC::runs_on_cube_core())

namespace AscendC {

namespace twin = ridge::backend::ascend::twin;
using Where = std::source_location;

template <typename A, typename B>
struct IsSameType : std::is_same<A, B> {};

void check_core_type(KernelMetaType type, Where where = Where::current());
bool runs_on_cube_core();

enum class TPosition : uint8_t {
  GM, A1, A2, B1, B2, C1, C2, CO1, CO2, VECIN, VECOUT, VECCALC, LCM = VECCALC, TSCM, C2PIPE2GM
};

enum class HardEvent : uint8_t {
  MTE2_MTE1, MTE1_MTE2, MTE1_M, M_MTE1, MTE2_V, V_MTE2, MTE3_V, V_MTE3, M_V, V_M, V_V, MTE3_MTE1,
  MTE1_MTE3, MTE1_V, MTE2_M, M_MTE2, V_MTE1, M_FIX, FIX_M, MTE3_MTE2, MTE2_MTE3, S_V, V_S, S_MTE2,
  MTE2_S, S_MTE3, MTE3_S, MTE2_FIX, FIX_MTE2, FIX_S, M_S, FIX_MTE3, MTE1_FIX, FIX_MTE1, FIX_FIX
};
using TEventID = int8_t;

enum class ReduceOrder : uint8_t { ORDER_VALUE_INDEX, ORDER_INDEX_VALUE, ORDER_ONLY_VALUE,
                                   ORDER_ONLY_INDEX };
enum class CacheLine : uint8_t { SINGLE_CACHE_LINE, ENTIRE_DATA_CACHE };
enum class DcciDst : uint8_t { CACHELINE_ALL, CACHELINE_UB, CACHELINE_OUT, CACHELINE_ATOMIC };
enum class CO2Layout : uint8_t { NZ, ROW_MAJOR, COLUMN_MAJOR };

// Blocks are of 32 bytes; strides of DataCopyParams are gaps between them.
struct DataCopyParams {
  uint16_t blockCount = 1;
  uint16_t blockLen = 0;
  uint16_t srcStride = 0;
  uint16_t dstStride = 0;
};
// Lengths in bytes. Gaps: in bytes on the side of global memory, in 32 bytes on the other.
struct DataCopyExtParams {
  uint16_t blockCount = 1;
  uint32_t blockLen = 0;
  uint32_t srcStride = 0;
  uint32_t dstStride = 0;
  uint32_t rsv = 0;
};
template <typename T>
struct DataCopyPadExtParams {
  bool isPad = false;
  uint8_t leftPadding = 0;   // elements, at most 32 bytes
  uint8_t rightPadding = 0;
  T paddingValue = 0;
};
// Counts and strides in elements, those of the destination in C0 (32 bytes).
struct Nd2NzParams {
  uint16_t ndNum = 0;
  uint16_t nValue = 0;
  uint16_t dValue = 0;
  uint16_t srcNdMatrixStride = 0;
  uint16_t srcDValue = 0;
  uint16_t dstNzC0Stride = 0;
  uint16_t dstNzNStride = 0;
  uint16_t dstNzMatrixStride = 0;  // in elements
};
// In blocks of 32 bytes.
struct BinaryRepeatParams {
  uint8_t dstBlkStride = 1;
  uint8_t src0BlkStride = 1;
  uint8_t src1BlkStride = 1;
  uint8_t dstRepStride = 8;
  uint8_t src0RepStride = 8;
  uint8_t src1RepStride = 8;
};
struct UnaryRepeatParams {
  uint16_t dstBlkStride = 1;
  uint16_t srcBlkStride = 1;
  uint8_t dstRepStride = 8;
  uint8_t srcRepStride = 8;
};
struct BrcbRepeatParams {
  uint16_t dstBlkStride = 1;
  uint16_t dstRepStride = 8;
};
// In fractals of 512 bytes.
struct LoadData2DParams {
  LoadData2DParams() = default;
  LoadData2DParams(uint16_t start, uint8_t repeats, uint16_t stride, uint8_t sid, uint16_t gap,
                   bool transpose, uint8_t mode)
      : startIndex(start), dstGap(gap), srcStride(stride), ifTranspose(transpose),
        repeatTimes(repeats), sid(sid), addrMode(mode) {}
  uint16_t startIndex = 0;
  uint16_t dstGap = 0;
  uint16_t srcStride = 0;
  bool ifTranspose = false;
  uint8_t repeatTimes = 0;
  uint8_t sid = 0;
  uint8_t addrMode = 0;
};
struct MmadParams {
  MmadParams() = default;
  MmadParams(uint16_t m, uint16_t n, uint16_t k, uint8_t unit_flag, bool source, bool init)
      : m(m), n(n), k(k), unitFlag(unit_flag), cmatrixSource(source), cmatrixInitVal(init) {}
  uint16_t m = 0;
  uint16_t n = 0;
  uint16_t k = 0;
  bool isBias = false;
  int32_t fmOffset = 0;
  bool enSsparse = false;
  uint8_t unitFlag = 0;
  bool cmatrixSource = false;
  bool cmatrixInitVal = true;  // false: add to what the accumulators hold
};
struct FixpipeConfig {
  CO2Layout format;
};
inline constexpr FixpipeConfig CFG_ROW_MAJOR = {CO2Layout::ROW_MAJOR};
struct FixpipeParamsV220 {
  uint16_t nSize = 0;
  uint16_t mSize = 0;
  uint16_t srcStride = 0;  // between columns of fractals, in 16 accumulators
  uint32_t dstStride = 0;  // between rows, in elements
  QuantMode_t quantPre = NoQuant;
  uint64_t deqScalar = 0;  // bits of a float
  uint16_t ndNum = 1;
  bool reluEn = false;
  uint8_t unitFlag = 0;
  bool isChannelSplit = false;
};

int64_t GetBlockIdx();
int64_t GetBlockNum();
int64_t GetSubBlockIdx();

}  // namespace AscendC
