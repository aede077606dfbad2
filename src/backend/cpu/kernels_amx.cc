#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tiles_amx.h"

#include "backend/cpu/row_kernels.h"
#include "backend/cpu/scaled_kernel.h"
#include "backend/cpu/tile_attention_kernel.h"
#include "backend/cpu/tile_dot_kernel.h"
#include "backend/cpu/tile_expansion_kernel.h"
#include "backend/cpu/tile_panel_kernel.h"
#include "backend/cpu/tile_peak_kernel.h"

namespace ridge::backend::cpu {

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512_bf16_kernels();
    fill_tile_dots<Avx512Bf16, HardwareTiles>(t);
    fill_scaled<Avx512Bf16, HardwareTiles>(t);
    // Where tiles do not serve, bfloat16 is converted: these processors multiply pairs of it at half the rate of float32.
    fill_tile_attention<Avx512Bf16, HardwareTiles, &avx512_vnni_kernels>(t);
    fill_tile_expansion<Avx512Bf16, HardwareTiles>(t);
    fill_tile_panel<Avx512Bf16, HardwareTiles>(t);
    fill_tile_peaks<HardwareTiles>(t.peaks);
    return t;
  }();
  return table;
}

}  // namespace ridge::backend::cpu
