// What tests of single tile kernels multiply, and at which instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/open.h"
#include "backend/cpu/tile_format.h"
#include "tensor/dtype.h"

namespace ridge::backend::cpu {

inline constexpr DType tile_dtypes[] = {DType::q4_0, DType::q4_1, DType::q5_0,   DType::q5_1,
                                 DType::q8_0, DType::q2_k, DType::q3_k,   DType::q4_k,
                                 DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs,
                                 DType::mxfp4};

// A tiled instruction set and one whose vectors its float32 arithmetic uses.
struct Pair {
  Isa tiled, plain;
};
inline std::vector<Pair> pairs() {
  std::vector<Pair> all;
  const auto add = [&](const std::vector<std::string>& isas, std::string_view tiled,
                       std::string_view plain) {
    for (const std::string& isa : isas) {
      if (isa == tiled) all.push_back({select_isa(tiled, true), select_isa(plain)});
    }
  };
  add(emulated_isas(), "amx_emulated", "scalar");
  add(emulated_isas(), "amx_emulated_avx512", "avx512_vnni");
  add(available_isas(), "amx", "avx512_vnni");
  return all;
}

class Random {
 public:
  explicit Random(uint32_t seed) : generator_(seed) {}
  float normal() { return normal_(generator_); }
  // Bits of a file's block, with every float16 in it finite.
  std::vector<std::byte> rows(DType dtype, int64_t columns) {
    std::vector<std::byte> bytes(row_bytes(dtype, columns) * strip_rows);
    for (std::byte& b : bytes) b = static_cast<std::byte>(generator_());
    const size_t block = traits(dtype).block_bytes;
    for (size_t at = 0; at < bytes.size(); at += block) clear_exponents(dtype, &bytes[at]);
    return bytes;
  }

 private:
  static void clear_exponents(DType dtype, std::byte* block) {
    const auto keep_small = [&](int at) { block[at + 1] &= std::byte{0xaf}; };
    switch (dtype) {
      case DType::q2_k:
        return keep_small(80), keep_small(82);
      case DType::q3_k:
        return keep_small(108);
      case DType::q6_k:
        return keep_small(208);
      case DType::q4_1:
      case DType::q5_1:
      case DType::q4_k:
      case DType::q5_k:
        return keep_small(0), keep_small(2);
      case DType::mxfp4:
        return void(block[0] = (block[0] & std::byte{7}) | std::byte{120});
      default:
        return keep_small(0);
    }
  }
  std::mt19937 generator_;
  std::normal_distribution<float> normal_;
};

inline std::vector<std::byte> packed(DType dtype, const std::vector<std::byte>& rows, int64_t columns) {
  const TileFormat format = tile_format(dtype);
  std::vector<std::byte> strip(
      static_cast<size_t>(units_of(format, columns) * format.unit_bytes()));
  const std::byte* starts[strip_rows];
  for (int r = 0; r < strip_rows; ++r) starts[r] = rows.data() + r * row_bytes(dtype, columns);
  pack_strip(dtype, starts, strip_rows, columns, strip.data());
  return strip;
}

}  // namespace ridge::backend::cpu
