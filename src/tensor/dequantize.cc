#include "tensor/dequantize.h"

#include <cstring>

#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"

namespace ridge {

namespace {

// Each function turns one block into x[block_elements]; layouts and formulas stand in blocks.h.

void dequantize_block(const BlockQ4_0& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 16; ++i) {
    x[i] = d * static_cast<float>((block.codes[i] & 15) - 8);
    x[i + 16] = d * static_cast<float>((block.codes[i] >> 4) - 8);
  }
}

void dequantize_block(const BlockQ4_1& block, float* x) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (int i = 0; i < 16; ++i) {
    x[i] = d * static_cast<float>(block.codes[i] & 15) + m;
    x[i + 16] = d * static_cast<float>(block.codes[i] >> 4) + m;
  }
}

// The five-bit code of element i of a Q5_0 or Q5_1 block.
template <typename Block>
int five_bit_code(const Block& block, int i) {
  const int low = i < 16 ? block.codes[i] & 15 : block.codes[i - 16] >> 4;
  const int high = (block.high[i / 8] >> (i % 8)) & 1;
  return low | (high << 4);
}

void dequantize_block(const BlockQ5_0& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(five_bit_code(block, i) - 16);
}

void dequantize_block(const BlockQ5_1& block, float* x) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(five_bit_code(block, i)) + m;
}

void dequantize_block(const BlockQ8_0& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 32; ++i) x[i] = d * static_cast<float>(block.codes[i]);
}

// The two-bit code of element i of a Q2_K or Q3_K block.
int two_bit_code(const uint8_t (&codes)[64], int i) {
  const int half = i / 128;
  const int shift = 2 * (i % 128 / 32);
  return (codes[32 * half + i % 32] >> shift) & 3;
}

void dequantize_block(const BlockQ2_K& block, float* x) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (int i = 0; i < 256; ++i) {
    const uint8_t packed = block.scales[i / 16];
    const float scale = d * static_cast<float>(packed & 15);
    const float minimum = dmin * static_cast<float>(packed >> 4);
    x[i] = scale * static_cast<float>(two_bit_code(block.codes, i)) - minimum;
  }
}

void dequantize_block(const BlockQ3_K& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 256; ++i) {
    const float scale = d * static_cast<float>(unpack_q3_scale(block.scales, i / 16));
    const int bit = (block.high[i % 32] >> (i / 32)) & 1;
    x[i] = scale * static_cast<float>(two_bit_code(block.codes, i) - 4 * (1 - bit));
  }
}

// The low nibble of element i of a Q4_K or Q5_K block.
int k_nibble(const uint8_t (&codes)[128], int i) {
  const uint8_t packed = codes[32 * (i / 64) + i % 32];
  return i % 64 < 32 ? packed & 15 : packed >> 4;
}

void dequantize_block(const BlockQ4_K& block, float* x) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const SuperBlockScales scales = unpack_k_scales(block.scales);
  for (int i = 0; i < 256; ++i) {
    const float scale = d * static_cast<float>(scales.scale[i / 32]);
    const float minimum = dmin * static_cast<float>(scales.minimum[i / 32]);
    x[i] = scale * static_cast<float>(k_nibble(block.codes, i)) - minimum;
  }
}

void dequantize_block(const BlockQ5_K& block, float* x) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const SuperBlockScales scales = unpack_k_scales(block.scales);
  for (int i = 0; i < 256; ++i) {
    const float scale = d * static_cast<float>(scales.scale[i / 32]);
    const float minimum = dmin * static_cast<float>(scales.minimum[i / 32]);
    const int bit = (block.high[i % 32] >> (i / 32)) & 1;
    x[i] = scale * static_cast<float>(k_nibble(block.codes, i) | (bit << 4)) - minimum;
  }
}

void dequantize_block(const BlockQ6_K& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int quarter = i % 128 / 32;  // which of the four elements that share a byte of `high`
    const uint8_t packed = block.codes[64 * half + 32 * (quarter % 2) + i % 32];
    const int low = quarter < 2 ? packed & 15 : packed >> 4;
    const int high = (block.high[32 * half + i % 32] >> (2 * quarter)) & 3;
    const float scale = d * static_cast<float>(block.scales[i / 16]);
    x[i] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

void dequantize_block(const BlockIQ4_NL& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 16; ++i) {
    x[i] = d * static_cast<float>(iq4_codebook[block.codes[i] & 15]);
    x[i + 16] = d * static_cast<float>(iq4_codebook[block.codes[i] >> 4]);
  }
}

void dequantize_block(const BlockIQ4_XS& block, float* x) {
  const float d = f16_to_f32(block.d);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * static_cast<float>(unpack_iq4_xs_scale(block, group));
    const uint8_t* codes = block.codes + 16 * group;
    for (int i = 0; i < 16; ++i) {
      x[32 * group + i] = scale * static_cast<float>(iq4_codebook[codes[i] & 15]);
      x[32 * group + 16 + i] = scale * static_cast<float>(iq4_codebook[codes[i] >> 4]);
    }
  }
}

void dequantize_block(const BlockMXFP4& block, float* x) {
  const float d = bf16_to_f32(e8m0_half_to_bf16(block.e));
  for (int i = 0; i < 16; ++i) {
    x[i] = d * static_cast<float>(mxfp4_levels[block.codes[i] & 15]);
    x[i + 16] = d * static_cast<float>(mxfp4_levels[block.codes[i] >> 4]);
  }
}

template <typename Block>
void dequantize_blocks(DType dtype, std::span<const std::byte> row, std::span<float> out) {
  const auto elements = static_cast<size_t>(traits(dtype).block_elements);
  for (size_t b = 0; b < out.size() / elements; ++b) {
    Block block;  // copied out, because a row may stand at any address
    std::memcpy(&block, row.data() + b * sizeof(Block), sizeof(Block));
    dequantize_block(block, out.data() + b * elements);
  }
}

template <typename Value, typename Convert>
void convert_plain(std::span<const std::byte> row, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    Value value;
    std::memcpy(&value, row.data() + i * sizeof(Value), sizeof(Value));
    out[i] = convert(value);
  }
}

}  // namespace

void dequantize_row(DType dtype, std::span<const std::byte> row, std::span<float> out) {
  RIDGE_ASSERT(row.size() == row_bytes(dtype, static_cast<int64_t>(out.size())));
  const auto to_float = [](auto value) { return static_cast<float>(value); };
  switch (dtype) {
    case DType::f32:
      return convert_plain<float>(row, out, to_float);
    case DType::f16:
      return convert_plain<uint16_t>(row, out, f16_to_f32);
    case DType::bf16:
      return convert_plain<uint16_t>(row, out, bf16_to_f32);
    case DType::i8:
      return convert_plain<int8_t>(row, out, to_float);
    case DType::i32:
      return convert_plain<int32_t>(row, out, to_float);
    case DType::q4_0:
      return dequantize_blocks<BlockQ4_0>(dtype, row, out);
    case DType::q4_1:
      return dequantize_blocks<BlockQ4_1>(dtype, row, out);
    case DType::q5_0:
      return dequantize_blocks<BlockQ5_0>(dtype, row, out);
    case DType::q5_1:
      return dequantize_blocks<BlockQ5_1>(dtype, row, out);
    case DType::q8_0:
      return dequantize_blocks<BlockQ8_0>(dtype, row, out);
    case DType::q2_k:
      return dequantize_blocks<BlockQ2_K>(dtype, row, out);
    case DType::q3_k:
      return dequantize_blocks<BlockQ3_K>(dtype, row, out);
    case DType::q4_k:
      return dequantize_blocks<BlockQ4_K>(dtype, row, out);
    case DType::q5_k:
      return dequantize_blocks<BlockQ5_K>(dtype, row, out);
    case DType::q6_k:
      return dequantize_blocks<BlockQ6_K>(dtype, row, out);
    case DType::iq4_nl:
      return dequantize_blocks<BlockIQ4_NL>(dtype, row, out);
    case DType::iq4_xs:
      return dequantize_blocks<BlockIQ4_XS>(dtype, row, out);
    case DType::mxfp4:
      return dequantize_blocks<BlockMXFP4>(dtype, row, out);
  }
  RIDGE_ASSERT(!"a dtype without a meaning");
}

}  // namespace ridge
