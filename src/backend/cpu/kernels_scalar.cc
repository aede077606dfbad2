#include "backend/cpu/simd_scalar.h"

#include "backend/cpu/kernel_table.h"

namespace ridge::backend::cpu {

const KernelTable& scalar_kernels() {
  static const KernelTable table = make_kernel_table<Scalar>();
  return table;
}

}  // namespace ridge::backend::cpu
