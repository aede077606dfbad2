#include "backend/ascend/kernels/few_rows_cube.h"
#include "backend/ascend/kernels/few_rows_digits.h"
#include "backend/ascend/kernels/few_rows_products.h"

namespace ridge::backend::ascend {

template <typename Code>
__aicore__ inline void linear_few_rows(GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR out,
                                       GM_ADDR workspace, GM_ADDR tiling_address) {
  const QuantizedLinearTiling tiling = read_tiling<QuantizedLinearTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIC {
    FewRowsCube<Code> cube(pipe, tiling, workspace);
    cube.run(codes);
  }
  if ASCEND_IS_AIV {
    const FewRowsSpace<Code> space(workspace, tiling, AscendC::GetBlockIdx() / 2);
    DigitMaker<Code> digits(pipe, tiling, space);
    ProductScaler<Code> products(pipe, tiling, space);
    digits.run(x);
    AscendC::CrossCoreSetFlag<2, PIPE_MTE3>(digits_ready);
    AscendC::CrossCoreSetFlag<1, PIPE_MTE3>(statistics_ready);
    AscendC::CrossCoreWaitFlag(statistics_ready);
    products.run(scales, out);
  }
}

}  // namespace ridge::backend::ascend

#define RIDGE_LINEAR_FEW_ROWS(suffix, Code)                                                    \
  extern "C" __global__ __aicore__ void ridge_linear_##suffix##_few_rows(                      \
      GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR out, GM_ADDR workspace,                \
      GM_ADDR tiling) {                                                                        \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                         \
    ridge::backend::ascend::linear_few_rows<Code>(x, codes, scales, out, workspace, tiling);   \
  }

RIDGE_LINEAR_FEW_ROWS(i4, AscendC::int4b_t)
RIDGE_LINEAR_FEW_ROWS(i8, int8_t)
