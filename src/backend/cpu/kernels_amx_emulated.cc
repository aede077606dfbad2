#include "backend/cpu/simd_scalar.h"
#include "backend/cpu/tiles_emulated.h"

#include "backend/cpu/row_kernels.h"
#include "backend/cpu/scaled_kernel.h"
#include "backend/cpu/tile_attention_kernel.h"
#include "backend/cpu/tile_dot_kernel.h"
#include "backend/cpu/tile_expansion_kernel.h"
#include "backend/cpu/tile_panel_kernel.h"
#include "backend/cpu/tile_peak_kernel.h"

namespace ridge::backend::cpu {

const KernelTable& amx_emulated_kernels() {
  static const KernelTable table = [] {
    KernelTable t = scalar_kernels();
    fill_tile_dots<Scalar, EmulatedTiles>(t);
    fill_scaled<Scalar, EmulatedTiles>(t);
    fill_tile_attention<Scalar, EmulatedTiles, &scalar_kernels>(t);
    fill_tile_expansion<Scalar, EmulatedTiles>(t);
    fill_tile_panel<Scalar, EmulatedTiles>(t);
    fill_tile_peaks<EmulatedTiles>(t.peaks);
    return t;
  }();
  return table;
}

}  // namespace ridge::backend::cpu
