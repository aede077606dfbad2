#include "backend/ascend/kernels/linear_tiles.h"

// out[m, n] = x[m, k] W[n, k]ᵀ with W in groups of 32 along k: a scale (half) and codes, int8 for
// Q8_0 or int4 for Q4_0 (whose codes 0 to 15 are stored less 8). Activations are half.
//
// The two vector cores of a block turn codes into half and the cube core multiplies. What goes from
// one to the other lies in a ring of slots in global memory (in truth in L2), each one load of the
// cube core: [depth / 16][columns up to 16][16]. Codes are stored in that order too, so that a
// group of 16 columns needs no rearrangement: a scale for each row, spread over the row's 32 bytes.
namespace ridge::backend::ascend {

inline constexpr uint32_t group = 32;  // elements of k that share a scale
inline constexpr uint16_t slot_full = 1;
inline constexpr uint16_t slot_free = 2;

__aicore__ inline uint64_t slot_place(const QuantizedLinearTiling& tiling, uint32_t block,
                                      uint32_t load) {
  const uint64_t slot = static_cast<uint64_t>(block) * tiling.slots + load % tiling.slots;
  return slot * tiling.linear.n_tile * tiling.linear.k_l1;
}

// Loads of L1 that a block makes in all.
__aicore__ inline uint32_t loads_of(const QuantizedLinearTiling& tiling, uint32_t block) {
  uint32_t tiles = 0;
  for (LinearTiles tile(tiling.linear, block); !tile.done(); tile.next()) ++tiles;
  return tiles * ((tiling.linear.k + tiling.linear.k_l1 - 1) / tiling.linear.k_l1);
}

// On a cube core: slots as they fill.
class WeightsInSlots {
 public:
  __aicore__ inline WeightsInSlots(GM_ADDR workspace, const QuantizedLinearTiling& tiling)
      : tiling_(tiling), loads_(loads_of(tiling, AscendC::GetBlockIdx())) {
    gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(workspace));
  }

  __aicore__ inline void load(const AscendC::LocalTensor<half>& to, uint32_t, uint32_t columns,
                              uint32_t, uint32_t depth) {
    AscendC::CrossCoreWaitFlag(slot_full);
    AscendC::DataCopy(to, gm_[slot_place(tiling_, AscendC::GetBlockIdx(), done_)],
                      round_up(columns, c0) * depth);
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

// On a vector core: fills half of the groups of each slot.
template <typename Code>
class Dequantizer {
 public:
  __aicore__ inline Dequantizer(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling)
      : tiling_(tiling) {
    const uint32_t values = tiling.linear.n_tile * group;
    pipe.InitBuffer(codes_in_, 2, values * code_bits / 8);
    pipe.InitBuffer(scales_in_, 2, tiling.linear.n_tile * sizeof(half));
    pipe.InitBuffer(out_, 2, values * sizeof(half));
    pipe.InitBuffer(spread_, tiling.linear.n_tile * c0 * sizeof(half));
  }

  __aicore__ inline void run(GM_ADDR codes, GM_ADDR scales, GM_ADDR workspace) {
    codes_gm_.SetGlobalBuffer(codes);
    scales_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(scales));
    slots_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(workspace));
    const uint32_t block = AscendC::GetBlockIdx() / 2;
    uint32_t load = 0;
    for (LinearTiles tile(tiling_.linear, block); !tile.done(); tile.next()) {
      for (uint32_t k = 0; k < tiling_.linear.k; k += tiling_.linear.k_l1, ++load) {
        if (load >= tiling_.slots) AscendC::CrossCoreWaitFlag(slot_free);
        const uint32_t depth = smaller(tiling_.linear.k_l1, tiling_.linear.k - k);
        fill(slot_place(tiling_, block, load), tile.n(), round_up(tile.columns(), c0), k, depth);
        AscendC::CrossCoreSetFlag<2, PIPE_MTE3>(slot_full);
      }
    }
  }

 private:
  static constexpr uint32_t code_bits = AscendC::IsSameType<Code, AscendC::int4b_t>::value ? 4 : 8;
  static constexpr uint32_t columns_of_group = group / c0;

  __aicore__ inline void fill(uint64_t slot, uint32_t n, uint32_t padded, uint32_t k,
                              uint32_t depth) {
    const uint32_t groups = depth / group;
    const uint32_t first_half = (groups + 1) / 2;
    const bool second = AscendC::GetSubBlockIdx() != 0;
    const uint32_t last = second ? groups : first_half;
    for (uint32_t g = second ? first_half : 0; g < last; ++g) {
      copy_in(n, padded, k / group + g);
      compute(padded);
      copy_out(slot + static_cast<uint64_t>(g) * group * padded, padded);
    }
  }

  __aicore__ inline void copy_in(uint32_t n, uint32_t padded, uint32_t number) {
    AscendC::LocalTensor<uint8_t> codes = codes_in_.template AllocTensor<uint8_t>();
    const uint64_t row = static_cast<uint64_t>(number) * columns_of_group *
                             tiling_.linear.n_padded + n;
    AscendC::DataCopyParams shape;
    shape.blockCount = columns_of_group;
    shape.blockLen = padded * c0 * code_bits / 8 / 32;
    shape.srcStride = (tiling_.linear.n_padded - padded) * c0 * code_bits / 8 / 32;
    shape.dstStride = 0;
    AscendC::DataCopy(codes, codes_gm_[row * c0 * code_bits / 8], shape);
    codes_in_.EnQue(codes);
    AscendC::LocalTensor<half> scales = scales_in_.template AllocTensor<half>();
    AscendC::DataCopy(
        scales, scales_gm_[static_cast<uint64_t>(number) * tiling_.linear.n_padded + n], padded);
    scales_in_.EnQue(scales);
  }

  __aicore__ inline void compute(uint32_t padded) {
    AscendC::LocalTensor<uint8_t> codes = codes_in_.template DeQue<uint8_t>();
    AscendC::LocalTensor<half> scales = scales_in_.template DeQue<half>();
    AscendC::LocalTensor<half> out = out_.template AllocTensor<half>();
    AscendC::LocalTensor<half> spread = spread_.Get<half>();
    AscendC::Cast(out, codes.template ReinterpretCast<Code>(), AscendC::RoundMode::CAST_NONE,
                  padded * group);
    AscendC::Brcb(spread, scales, padded / 8, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t column = 0; column < columns_of_group; ++column) {
      const uint32_t at = column * padded * c0;
      AscendC::Mul(out[at], out[at], spread, padded * c0);
    }
    AscendC::PipeBarrier<PIPE_V>();
    codes_in_.FreeTensor(codes);
    scales_in_.FreeTensor(scales);
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint64_t at, uint32_t padded) {
    AscendC::LocalTensor<half> out = out_.template DeQue<half>();
    AscendC::DataCopy(slots_gm_[at], out, padded * group);
    out_.FreeTensor(out);
  }

  const QuantizedLinearTiling tiling_;
  AscendC::GlobalTensor<uint8_t> codes_gm_;
  AscendC::GlobalTensor<half> scales_gm_, slots_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> codes_in_, scales_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> spread_;
};

template <typename Code>
__aicore__ inline void linear_quantized(GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR out,
                                        GM_ADDR workspace, GM_ADDR tiling_address) {
  const QuantizedLinearTiling tiling = read_tiling<QuantizedLinearTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIV {
    Dequantizer<Code> dequantizer(pipe, tiling);
    dequantizer.run(codes, scales, workspace);
  }
  if ASCEND_IS_AIC {
    WeightsInSlots weights(workspace, tiling);
    Linear<half, WeightsInSlots> linear(pipe, tiling.linear, weights);
    linear.run(x, out);
  }
}

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_linear_q8_0(GM_ADDR x, GM_ADDR codes, GM_ADDR scales,
                                                        GM_ADDR out, GM_ADDR workspace,
                                                        GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);
  ridge::backend::ascend::linear_quantized<int8_t>(x, codes, scales, out, workspace, tiling);
}

extern "C" __global__ __aicore__ void ridge_linear_q4_0(GM_ADDR x, GM_ADDR codes, GM_ADDR scales,
                                                        GM_ADDR out, GM_ADDR workspace,
                                                        GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);
  ridge::backend::ascend::linear_quantized<AscendC::int4b_t>(x, codes, scales, out, workspace,
                                                             tiling);
}
