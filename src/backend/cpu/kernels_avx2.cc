#include "backend/cpu/simd_avx2.h"

#include "backend/cpu/kernel_table.h"

namespace ridge::backend::cpu {

const KernelTable& avx2_kernels() {
  static const KernelTable table = make_kernel_table<Avx2>();
  return table;
}

}  // namespace ridge::backend::cpu
