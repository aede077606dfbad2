#include "backend/ascend/kernels/linear_tiles.h"

// out[m, n] = x[m, k] W[n, k]ᵀ with x and W in 16 bits or int8, W as rows or as columns of fractals; or
// one W for each expert or head.
namespace ridge::backend::ascend {

template <typename T>
class StoredWeights {
 public:
  __aicore__ inline StoredWeights(GM_ADDR weight, const LinearTiling& tiling) : tiling_(tiling) {
    gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(weight));
  }

  __aicore__ inline void load(const AscendC::LocalTensor<T>& to, uint32_t group, uint32_t n,
                              uint32_t columns, uint32_t k, uint32_t depth) {
    const uint32_t padded = round_up(columns, c0);
    if (tiling_.layout == LinearTiling::nz) {
      AscendC::DataCopyParams params;
      params.blockCount = (depth + k0 - 1) / k0;
      params.blockLen = padded;
      params.srcStride = tiling_.n_padded - padded;
      params.dstStride = 0;
      const uint64_t row = static_cast<uint64_t>(group) * round_up(tiling_.k, k0) + k;
      AscendC::DataCopy(to, gm_[row * tiling_.n_padded + n * k0], params);
    } else {
      const uint64_t row = static_cast<uint64_t>(group) * tiling_.n + n;
      AscendC::DataCopy(to, gm_[row * tiling_.k + k],
                        to_fractals(columns, depth, tiling_.k, padded));
    }
  }

 private:
  static constexpr uint32_t k0 = 32 / sizeof(T);

  const LinearTiling tiling_;
  AscendC::GlobalTensor<T> gm_;
};

template <typename T>
__aicore__ inline void linear(GM_ADDR x, GM_ADDR weight, GM_ADDR starts, GM_ADDR out,
                              GM_ADDR tiling_address) {
  AscendC::TPipe pipe;
  const LinearTiling tiling = read_tiling<LinearTiling>(tiling_address);
  StoredWeights<T> weights(weight, tiling);
  Linear<T, StoredWeights<T>> linear(pipe, tiling, weights);
  linear.run(x, out, starts);
}

}  // namespace ridge::backend::ascend

#define RIDGE_LINEAR(suffix, T)                                                               \
  extern "C" __global__ __aicore__ void ridge_linear_##suffix(GM_ADDR x, GM_ADDR weight,      \
                                                              GM_ADDR out, GM_ADDR tiling) {  \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);                                           \
    ridge::backend::ascend::linear<T>(x, weight, nullptr, out, tiling);                       \
  }                                                                                           \
  extern "C" __global__ __aicore__ void ridge_expert_linear_##suffix(                         \
      GM_ADDR x, GM_ADDR weight, GM_ADDR starts, GM_ADDR out, GM_ADDR tiling) {               \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);                                           \
    ridge::backend::ascend::linear<T>(x, weight, starts, out, tiling);                        \
  }

RIDGE_LINEAR(f16, half)
RIDGE_LINEAR(bf16, bfloat16_t)
RIDGE_LINEAR(w8a8, int8_t)
