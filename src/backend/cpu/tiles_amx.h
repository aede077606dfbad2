#pragma once

#include "backend/cpu/tiles.h"

// The real tiles. GCC 12's own intrinsics do not say that they read memory (its _tile_loadconfig
// names 8 of the 64 bytes, its _tile_loadd none), so that stores before them may be dropped or
// moved behind. The instructions are written here with every byte named, or with all memory
// clobbered where the extent depends on the configuration.
namespace ridge::backend::cpu {
namespace {

struct HardwareTiles {
  static void configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  static void release() { asm volatile("tilerelease" : : : "memory"); }

  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  // Of what passes once: it leaves the first-level cache to others.
  template <int T>
  static void load_passing(const void* from, int64_t stride) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }

  // AT&T order: the last operand is the sum, the one before it is A, the first is B.
  template <int C, int A, int B>
  static void dot_bf16() {
    static_assert(C != A && C != B && A != B);
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  static void dot_s8u8() {
    static_assert(C != A && C != B && A != B);
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  static void dot_s8s8() {
    static_assert(C != A && C != B && A != B);
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
