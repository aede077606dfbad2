#include "backend/ascend/kernels/group_scales.h"
#include "backend/ascend/kernels/linear_tiles.h"

// out[m, n] = x[m, k] W[n, k]ᵀ with a quantised W (QuantizedFormat), for many rows, or with one W
// for each expert or head. Activations are half.
//
// The two vector cores of a block turn codes into half, each value rounded once or, with a minimum,
// twice, and the cube core multiplies. What goes from one to the other lies in a ring of slots in
// global memory (in truth in L2), each one load of the cube core: [depth / 16][columns up to 64][16].
namespace ridge::backend::ascend {

inline constexpr uint16_t slot_full = 1;
inline constexpr uint16_t slot_free = 2;

__aicore__ inline uint64_t slot_place(const QuantizedLinearTiling& tiling, uint32_t block,
                                      uint32_t load) {
  const uint64_t slot = static_cast<uint64_t>(block) * tiling.slots + load % tiling.slots;
  return slot * tiling.linear.n_tile * tiling.linear.k_l1;
}

// Loads of L1 that a block makes in all.
__aicore__ inline uint32_t loads_of(const QuantizedLinearTiling& tiling, uint32_t block,
                                    GM_ADDR starts) {
  uint32_t tiles = 0;
  for (LinearTiles tile(tiling.linear, block, starts); !tile.done(); tile.next()) ++tiles;
  return tiles * ((tiling.linear.k + tiling.linear.k_l1 - 1) / tiling.linear.k_l1);
}

// On a cube core: slots as they fill.
class WeightsInSlots {
 public:
  __aicore__ inline WeightsInSlots(GM_ADDR workspace, const QuantizedLinearTiling& tiling,
                                   GM_ADDR starts)
      : tiling_(tiling), loads_(loads_of(tiling, AscendC::GetBlockIdx(), starts)) {
    gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(workspace));
  }

  __aicore__ inline void load(const AscendC::LocalTensor<half>& to, uint32_t, uint32_t,
                              uint32_t columns, uint32_t, uint32_t depth) {
    AscendC::CrossCoreWaitFlag(slot_full);
    AscendC::DataCopyParams params;
    params.blockCount = depth / c0;
    params.blockLen = round_up(columns, c0);
    params.srcStride = round_up(columns, quantized_columns) - params.blockLen;
    params.dstStride = 0;
    AscendC::DataCopy(to, gm_[slot_place(tiling_, AscendC::GetBlockIdx(), done_)], params);
    // Those who fill do not wait for the last slots to be free again.
    if (done_ + tiling_.slots < loads_) AscendC::CrossCoreSetFlag<2, PIPE_MTE2>(slot_free);
    ++done_;
  }

 private:
  const QuantizedLinearTiling tiling_;
  const uint32_t loads_;
  uint32_t done_ = 0;
  AscendC::GlobalTensor<half> gm_;
};

// On a vector core: fills half of the fractals of each slot.
template <typename Code>
class Dequantizer {
 public:
  __aicore__ inline Dequantizer(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling)
      : tiling_(tiling),
        groups_(fractal_k / tiling.format.group),
        group_scales_(pipe, tiling, groups_, tiling.linear.n_tile) {
    const uint32_t n_tile = tiling.linear.n_tile;
    pipe.InitBuffer(codes_in_, 2, n_tile * fractal_row_bytes);
    pipe.InitBuffer(out_, 2, n_tile * fractal_k * sizeof(half));
    pipe.InitBuffer(halves_, n_tile * fractal_k * sizeof(half));
    pipe.InitBuffer(narrowed_, 2 * groups_ * n_tile * sizeof(half));
    pipe.InitBuffer(spread_, 2 * n_tile * c0 * sizeof(half));
  }

  __aicore__ inline void run(GM_ADDR codes, GM_ADDR scales, GM_ADDR workspace, GM_ADDR starts) {
    slots_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(workspace));
    const uint32_t block = AscendC::GetBlockIdx() / 2;
    uint32_t load = 0;
    for (LinearTiles tile(tiling_.linear, block, starts); !tile.done(); tile.next()) {
      const uint64_t rows = static_cast<uint64_t>(round_up(tiling_.linear.k, fractal_k) / fractal_k) *
                            tiling_.linear.n_padded;
      codes_gm_.SetGlobalBuffer(
          reinterpret_cast<__gm__ int8_t*>(codes + tile.group() * rows * fractal_row_bytes));
      group_scales_.open(scales, tiling_.linear.k, tile.group());
      for (uint32_t k = 0; k < tiling_.linear.k; k += tiling_.linear.k_l1, ++load) {
        if (load >= tiling_.slots) AscendC::CrossCoreWaitFlag(slot_free);
        const uint32_t depth = smaller(tiling_.linear.k_l1, tiling_.linear.k - k);
        fill(slot_place(tiling_, block, load), tile.n(),
             round_up(tile.columns(), quantized_columns), k, depth);
        AscendC::CrossCoreSetFlag<2, PIPE_MTE3>(slot_full);
      }
    }
  }

 private:
  // Elements of k in a fractal of codes.
  static constexpr uint32_t fractal_k =
      AscendC::IsSameType<Code, AscendC::int4b_t>::value ? 64 : 32;
  static constexpr uint32_t columns_of_fractal = fractal_k / c0;

  __aicore__ inline void fill(uint64_t slot, uint32_t n, uint32_t padded, uint32_t k,
                              uint32_t depth) {
    const uint32_t fractals = (depth + fractal_k - 1) / fractal_k;
    const uint32_t first_half = (fractals + 1) / 2;
    const bool second = AscendC::GetSubBlockIdx() != 0;
    const uint32_t last = second ? fractals : first_half;
    for (uint32_t f = second ? first_half : 0; f < last; ++f) {
      copy_in(n, padded, k / fractal_k + f);
      compute(padded);
      copy_out(slot + static_cast<uint64_t>(f) * fractal_k * padded, padded);
    }
  }

  __aicore__ inline void copy_in(uint32_t n, uint32_t padded, uint32_t number) {
    AscendC::LocalTensor<int8_t> codes = codes_in_.template AllocTensor<int8_t>();
    const uint64_t row = static_cast<uint64_t>(number) * tiling_.linear.n_padded + n;
    AscendC::DataCopy(codes, codes_gm_[row * fractal_row_bytes], padded * fractal_row_bytes);
    codes_in_.EnQue(codes);
    group_scales_.load(number * groups_, groups_, n, padded);
  }

  // Values are codes · scale + minimum. Each row of a fractal has fractal_k codes, a scale spread over
  // its 32 bytes for each group; the products go to [fractal_k / 16][padded][16].
  __aicore__ inline void compute(uint32_t padded) {
    AscendC::LocalTensor<half> narrowed = narrowed_.Get<half>();
    AscendC::LocalTensor<half> narrowed_minima = narrowed[groups_ * padded];
    group_scales_.compute(groups_, padded);
    AscendC::Cast(narrowed, group_scales_.scales(), AscendC::RoundMode::CAST_RINT,
                  (1 + tiling_.format.has_minimum) * groups_ * padded);
    AscendC::LocalTensor<int8_t> codes = codes_in_.template DeQue<int8_t>();
    AscendC::LocalTensor<half> out = out_.template AllocTensor<half>();
    AscendC::LocalTensor<half> halves = halves_.Get<half>();
    AscendC::LocalTensor<half> spread = spread_.Get<half>();
    AscendC::LocalTensor<half> spread_minima = spread[padded * c0];
    AscendC::Cast(halves, codes.template ReinterpretCast<Code>(), AscendC::RoundMode::CAST_NONE,
                  padded * fractal_k);
    AscendC::PipeBarrier<PIPE_V>();
    const uint8_t row_repeats = padded / 8;  // of 8 rows
    const uint32_t columns_of_group = columns_of_fractal / groups_;
    for (uint32_t g = 0; g < groups_; ++g) {
      AscendC::Brcb(spread, narrowed[g * padded], row_repeats, AscendC::BrcbRepeatParams{1, 8});
      if (tiling_.format.has_minimum) {
        AscendC::Brcb(spread_minima, narrowed_minima[g * padded], row_repeats,
                      AscendC::BrcbRepeatParams{1, 8});
      }
      AscendC::PipeBarrier<PIPE_V>();
      for (uint32_t i = 0; i < columns_of_group; ++i) {
        const uint32_t column = g * columns_of_group + i;
        AscendC::Mul(out[column * padded * c0], halves[column * c0], spread,
                     static_cast<uint64_t>(8 * c0), row_repeats,
                     AscendC::BinaryRepeatParams{1, columns_of_fractal, 1, 8,
                                                 8 * columns_of_fractal, 8});
      }
      AscendC::PipeBarrier<PIPE_V>();
      if (tiling_.format.has_minimum) {
        for (uint32_t i = 0; i < columns_of_group; ++i) {
          const uint32_t at = (g * columns_of_group + i) * padded * c0;
          AscendC::Add(out[at], out[at], spread_minima, padded * c0);
        }
        AscendC::PipeBarrier<PIPE_V>();
      }
    }
    codes_in_.FreeTensor(codes);
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint64_t at, uint32_t padded) {
    AscendC::LocalTensor<half> out = out_.template DeQue<half>();
    AscendC::DataCopy(slots_gm_[at], out, padded * fractal_k);
    out_.FreeTensor(out);
  }

  const QuantizedLinearTiling tiling_;
  const uint32_t groups_;  // of a fractal
  GroupScales group_scales_;
  AscendC::GlobalTensor<int8_t> codes_gm_;
  AscendC::GlobalTensor<half> slots_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> codes_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> halves_, narrowed_, spread_;
};

template <typename Code>
__aicore__ inline void linear_quantized(GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR starts,
                                        GM_ADDR out, GM_ADDR workspace, GM_ADDR tiling_address) {
  const QuantizedLinearTiling tiling = read_tiling<QuantizedLinearTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIV {
    Dequantizer<Code> dequantizer(pipe, tiling);
    dequantizer.run(codes, scales, workspace, starts);
  }
  if ASCEND_IS_AIC {
    WeightsInSlots weights(workspace, tiling, starts);
    Linear<half, WeightsInSlots> linear(pipe, tiling.linear, weights);
    linear.run(x, out, starts);
  }
}

}  // namespace ridge::backend::ascend

#define RIDGE_LINEAR_QUANTIZED(suffix, Code)                                                   \
  extern "C" __global__ __aicore__ void ridge_linear_##suffix(                                 \
      GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR out, GM_ADDR workspace,                \
      GM_ADDR tiling) {                                                                        \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                         \
    ridge::backend::ascend::linear_quantized<Code>(x, codes, scales, nullptr, out, workspace,  \
                                                   tiling);                                    \
  }                                                                                            \
  extern "C" __global__ __aicore__ void ridge_expert_linear_##suffix(                          \
      GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR starts, GM_ADDR out,                   \
      GM_ADDR workspace, GM_ADDR tiling) {                                                     \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                         \
    ridge::backend::ascend::linear_quantized<Code>(x, codes, scales, starts, out, workspace,   \
                                                   tiling);                                    \
  }

RIDGE_LINEAR_QUANTIZED(i4, AscendC::int4b_t)
RIDGE_LINEAR_QUANTIZED(i8, int8_t)
