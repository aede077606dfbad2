#pragma once

#include <cstdint>

#include "kernel_operator.h"

namespace ridge::backend::ascend {

// Copies a tiling structure from global memory by the scalar unit.
template <typename Tiling>
__aicore__ inline Tiling read_tiling(GM_ADDR address) {
  static_assert(sizeof(Tiling) % sizeof(uint32_t) == 0, "tiling data are 32-bit words");
  AscendC::GlobalTensor<uint32_t> words;
  words.SetGlobalBuffer(reinterpret_cast<__gm__ uint32_t*>(address),
                        sizeof(Tiling) / sizeof(uint32_t));
  Tiling tiling;
  uint32_t* to = reinterpret_cast<uint32_t*>(&tiling);
  for (uint32_t i = 0; i < sizeof(Tiling) / sizeof(uint32_t); ++i) to[i] = words.GetValue(i);
  return tiling;
}

__aicore__ inline uint32_t round_up(uint32_t value, uint32_t to) {
  return (value + to - 1) / to * to;
}
__aicore__ inline uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

}  // namespace ridge::backend::ascend
