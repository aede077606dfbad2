#include "backend/ascend/kernels/linear_tiles.h"

// out[m, n] = x[m, k] W[n, k]ᵀ with W in 16 bits, as rows or as columns of fractals.
namespace ridge::backend::ascend {

template <typename T>
class StoredWeights {
 public:
  __aicore__ inline StoredWeights(GM_ADDR weight, const LinearTiling& tiling) : tiling_(tiling) {
    gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight));
  }

  __aicore__ inline void load(const AscendC::LocalTensor<T>& to, uint32_t n, uint32_t columns,
                              uint32_t k, uint32_t depth) {
    const uint32_t padded = round_up(columns, c0);
    if (tiling_.layout == LinearTiling::nz) {
      AscendC::DataCopyParams params;
      params.blockCount = (depth + c0 - 1) / c0;
      params.blockLen = padded;
      params.srcStride = tiling_.n_padded - padded;
      params.dstStride = 0;
      AscendC::DataCopy(to, gm_[static_cast<uint64_t>(k) * tiling_.n_padded + n * c0], params);
    } else {
      AscendC::DataCopy(to, gm_[static_cast<uint64_t>(n) * tiling_.k + k],
                        to_fractals(columns, depth, tiling_.k, padded));
    }
  }

 private:
  const LinearTiling tiling_;
  AscendC::GlobalTensor<T> gm_;
};

template <typename T>
__aicore__ inline void linear(GM_ADDR x, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling_address) {
  AscendC::TPipe pipe;
  const LinearTiling tiling = read_tiling<LinearTiling>(tiling_address);
  StoredWeights<T> weights(weight, tiling);
  Linear<T, StoredWeights<T>> linear(pipe, tiling, weights);
  linear.run(x, out);
}

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_linear_f16(GM_ADDR x, GM_ADDR weight, GM_ADDR out,
                                                       GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
  ridge::backend::ascend::linear<half>(x, weight, out, tiling);
}

extern "C" __global__ __aicore__ void ridge_linear_bf16(GM_ADDR x, GM_ADDR weight, GM_ADDR out,
                                                        GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
  ridge::backend::ascend::linear<bfloat16_t>(x, weight, out, tiling);
}
