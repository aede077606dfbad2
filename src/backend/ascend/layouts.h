#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/ascend/kernels/tiling_data.h"
#include "backend/ops.h"

// What the host lays out for kernels once, at load.
namespace ridge::backend::ascend {

// W[n, k] as LinearTiling::nz wants it: [up(k, 16)][n up to a multiple of 16][16], zeros behind n
// and k. Values are 16 bits of any type.
std::vector<uint16_t> pack_nz(std::span<const uint16_t> weight, uint32_t n, uint32_t k);

// The same of int8 for ridge_linear_w8a8: [up(k, 32)][n up to a multiple of 16][32].
std::vector<int8_t> pack_nz(std::span<const int8_t> weight, uint32_t n, uint32_t k);

// How ridge_linear_i4 and _i8 and their forms for few rows take the blocks of a quantised GGUF type: four
// bits of code where the type has no more and its levels are even, else eight. Throws unsupported for
// types that are not quantised.
QuantizedFormat quantized_format(DType dtype);

// A weight of blocks [n, k] in that format; nothing is rounded.
struct QuantizedNz {
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
};
// Bytes of the same.
struct QuantizedNzBytes {
  uint64_t codes;
  uint64_t scales;
};
QuantizedNzBytes quantized_bytes(DType dtype, uint32_t n, uint32_t k);
QuantizedNz pack_quantized(DType dtype, std::span<const std::byte> blocks, uint32_t n, uint32_t k);

// Rows of blocks as ridge_embed_quantized reads them (table_row of tiling.h): codes of int8, and of each
// group the product of its scales in float32 and of its minima. Nothing is rounded.
std::vector<std::byte> pack_table(DType dtype, std::span<const std::byte> blocks, uint32_t rows,
                                  uint32_t columns);

// A row of ridge_sample_rows: parameters as sampling::SamplingParams has them (temperature 0: greedy;
// top_k 0, top_p 1 and min_p 0: all tokens), and what the draw is made of: seed, choice, and the token's
// number in its answer.
SamplingRow sampling_row(float temperature, int top_k, float top_p, float min_p, uint64_t seed,
                         uint32_t choice, uint64_t token);

// What ridge_rope_store_kv reads of a RopeTable, whose rotary_dim is twice its frequencies.
// [rotary_dim]: byte of each element's partner in a float32 head.
std::vector<uint32_t> rope_partners(const RopeTable& table);
// rotations: [positions][2][rotary_dim], cosines, then signed sines.
void fill_rotations(const RopeTable& table, std::span<const int32_t> positions,
                    std::span<float> rotations);

}  // namespace ridge::backend::ascend
