#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/ops.h"

// What the host lays out for kernels once, at load.
namespace ridge::backend::ascend {

// W[n, k] as LinearTiling::nz wants it: [up(k, 16)][n up to a multiple of 16][16], zeros behind n
// and k. Values are 16 bits of any type.
std::vector<uint16_t> pack_nz(std::span<const uint16_t> weight, uint32_t n, uint32_t k);

// A weight of groups of 32 as ridge_linear_q8_0 and ridge_linear_q4_0 want it: codes in the order of
// pack_nz, scales as [k / 32][n up to a multiple of 16]. Nothing is rounded.
struct QuantizedNz {
  std::vector<uint8_t> codes;     // int8, or two int4 a byte
  std::vector<uint16_t> scales;   // half
};
// From the blocks of a GGUF tensor [n, k] of type Q8_0 (34 bytes each) or Q4_0 (18 bytes).
QuantizedNz pack_q8_0(std::span<const std::byte> blocks, uint32_t n, uint32_t k);
QuantizedNz pack_q4_0(std::span<const std::byte> blocks, uint32_t n, uint32_t k);

// What ridge_rope_store_kv reads of a RopeTable. rotary_dim is twice its frequencies.
struct RopeLayout {
  std::vector<float> rotations;    // [positions][2][rotary_dim]: cosines, then signed sines
  std::vector<uint32_t> partners;  // [rotary_dim]: byte of each element's partner in a float32 head
};
RopeLayout lay_out_rope(const RopeTable& table, uint32_t positions);

}  // namespace ridge::backend::ascend
