#include "backend/cpu/simd_avx512.h"

#include "backend/cpu/kernel_table.h"

namespace ridge::backend::cpu {

const KernelTable& avx512_bf16_kernels() {
  static const KernelTable table = [] {
    KernelTable t = make_kernel_table<Avx512Bf16>();
    t.byte_panel = avx512_vnni_byte_panels();
    t.word_panel = avx512_vnni_word_panels();
    return t;
  }();
  return table;
}

}  // namespace ridge::backend::cpu
