#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/tiles_emulated.h"

#include "backend/cpu/row_kernels.h"
#include "backend/cpu/scaled_kernel.h"
#include "backend/cpu/tile_attention_kernel.h"
#include "backend/cpu/tile_dot_kernel.h"
#include "backend/cpu/tile_expansion_kernel.h"
#include "backend/cpu/tile_panel_kernel.h"
#include "backend/cpu/tile_peak_kernel.h"

namespace ridge::backend::cpu {

const KernelTable& amx_emulated_avx512_kernels() {
  static const KernelTable table = [] {
    KernelTable t = avx512_bf16_kernels();
    fill_tile_dots<Avx512Bf16, EmulatedTiles>(t);
    fill_scaled<Avx512Bf16, EmulatedTiles>(t);
    fill_tile_attention<Avx512Bf16, EmulatedTiles, &avx512_vnni_kernels>(t);
    fill_tile_expansion<Avx512Bf16, EmulatedTiles>(t);
    fill_tile_panel<Avx512Bf16, EmulatedTiles>(t);
    fill_tile_peaks<EmulatedTiles>(t.peaks);
    return t;
  }();
  return table;
}

}  // namespace ridge::backend::cpu
