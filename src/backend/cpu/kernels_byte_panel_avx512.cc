#include "backend/cpu/simd_avx512.h"

#include "backend/cpu/byte_panel_kernel.h"

namespace ridge::backend::cpu {

const BytePanelKernels& avx512_vnni_byte_panels() {
  static const BytePanelKernels kernels = [] {
    using enum DType;
    BytePanelKernels all{};
    // Q2_K has minima of 16 columns; simple formats lose more to a shared step than they may (ADR
    // 0048).
    fill_byte_panels<Avx512Vnni, q3_k, q4_k, q5_k, q6_k, iq4_xs>(all);
    return all;
  }();
  return kernels;
}

}  // namespace ridge::backend::cpu
