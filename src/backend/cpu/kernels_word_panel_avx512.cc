#include "backend/cpu/simd_avx512.h"

#include <limits>

#include "backend/cpu/word_panel_kernel.h"

namespace ridge::backend::cpu {

const WordPanelKernels& avx512_vnni_word_panels() {
  static const WordPanelKernels kernels = [] {
    using enum DType;
    WordPanelKernels all{};
    // All but Q2_K, whose minima meet sums of 16 columns.
    fill_word_panels<Avx512Vnni, q4_0, q4_1, q5_0, q5_1, q8_0, iq4_nl, mxfp4, q3_k, q4_k, q5_k,
                     q6_k, iq4_xs>(all);
    // Intel's 512-bit additions take the pipes of its multiplications (ADR 0049).
    if (!__builtin_cpu_is("amd")) all.min_rows = std::numeric_limits<int>::max();
    return all;
  }();
  return kernels;
}

}  // namespace ridge::backend::cpu
