#include "backend/cpu/simd_avx512.h"

#include "backend/cpu/byte_panel_kernel.h"

namespace ridge::backend::cpu {

const BytePanelKernels& avx512_vnni_byte_panels() {
  static const BytePanelKernels kernels = [] {
    using enum DType;
    BytePanelKernels all{};
    // Q2_K has minima of 16 columns.
    fill_byte_panels<Avx512Vnni, q3_k, q4_k, q5_k, q6_k, iq4_xs, q4_0, q4_1, q5_0, q5_1, q8_0,
                     iq4_nl, mxfp4>(all);
    return all;
  }();
  return kernels;
}

}  // namespace ridge::backend::cpu
