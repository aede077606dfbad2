#include "backend/ascend/layouts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "backend/ascend/tiling.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"

namespace ridge::backend::ascend {

namespace {

template <typename T>
std::vector<T> columns_of_fractals(std::span<const T> weight, uint32_t n, uint32_t k) {
  constexpr uint32_t c0 = 32 / sizeof(T);
  const uint32_t padded = up_to(n, 16u);
  std::vector<T> packed(size_t{up(k, c0)} * padded * c0);
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t i = 0; i < k; ++i) {
      packed[(size_t{i / c0} * padded + row) * c0 + i % c0] = weight[size_t{row} * k + i];
    }
  }
  return packed;
}

}  // namespace

std::vector<uint16_t> pack_nz(std::span<const uint16_t> weight, uint32_t n, uint32_t k) {
  return columns_of_fractals(weight, n, k);
}

std::vector<int8_t> pack_nz(std::span<const int8_t> weight, uint32_t n, uint32_t k) {
  return columns_of_fractals(weight, n, k);
}

namespace {

// A block as numbers, codes about zero so that their products with scales round less: value i = d · sc[g] · (codes[i] + offset) + dm · mc[g], g = i / group.
struct OpenBlock {
  f16_bits d = 0;
  f16_bits dm = 0;
  std::array<int8_t, super_block_elements> codes{};
  std::array<int8_t, 16> sc{};
  std::array<int8_t, 16> mc{};
};

f16_bits negated(f16_bits bits) { return bits ^ 0x8000; }

// Element i of 32, low nibbles first.
int nibble_of(const uint8_t* codes, int i) { return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4; }
int fifth_bit(const uint8_t* high, int i) { return (high[i / 8] >> (i % 8)) & 1; }

void open_block(const BlockQ4_0& in, OpenBlock& out) {
  out.d = in.d;
  for (int i = 0; i < block_elements; ++i) out.codes[i] = int8_t(nibble_of(in.codes, i) - 8);
}
void open_block(const BlockQ4_1& in, OpenBlock& out) {
  out.d = in.d;
  out.dm = in.m;
  for (int i = 0; i < block_elements; ++i) out.codes[i] = int8_t(nibble_of(in.codes, i) - 8);
}
void open_block(const BlockQ5_0& in, OpenBlock& out) {
  out.d = in.d;
  for (int i = 0; i < block_elements; ++i) {
    out.codes[i] = int8_t((nibble_of(in.codes, i) | fifth_bit(in.high, i) << 4) - 16);
  }
}
void open_block(const BlockQ5_1& in, OpenBlock& out) {
  out.d = in.d;
  out.dm = in.m;
  for (int i = 0; i < block_elements; ++i) {
    out.codes[i] = int8_t((nibble_of(in.codes, i) | fifth_bit(in.high, i) << 4) - 16);
  }
}
void open_block(const BlockQ8_0& in, OpenBlock& out) {
  out.d = in.d;
  std::copy(std::begin(in.codes), std::end(in.codes), out.codes.begin());
}
void open_block(const BlockIQ4_NL& in, OpenBlock& out) {
  out.d = in.d;
  for (int i = 0; i < block_elements; ++i) out.codes[i] = iq4_codebook[nibble_of(in.codes, i)];
}
// The device's scales are F16.
void open_block(const BlockMXFP4& in, OpenBlock& out) {
  const float scale = bf16_to_f32(e8m0_half_to_bf16(in.e));
  out.d = f32_to_f16(scale);
  for (int i = 0; i < block_elements; ++i) out.codes[i] = mxfp4_levels[nibble_of(in.codes, i)];
  if (f16_to_f32(out.d) == scale) return;
  const bool is_zero = std::all_of(out.codes.begin(), out.codes.begin() + block_elements,
                                   [](int8_t code) { return code == 0; });
  if (!is_zero) {
    throw Error(ErrorCode::unsupported,
                "MXFP4 with a scale of 2^" + std::to_string(int{in.e} - 127) +
                    "; this back end takes 2^-23 to 2^16");
  }
  out.d = 0;
}
// Two bits of element i, as Q2_K and Q3_K have them.
int pair_of(const uint8_t* codes, int i) {
  return (codes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
}
void open_block(const BlockQ2_K& in, OpenBlock& out) {
  out.d = in.d;
  out.dm = negated(in.dmin);
  for (int g = 0; g < 16; ++g) {
    out.sc[g] = int8_t(in.scales[g] & 15);
    out.mc[g] = int8_t(in.scales[g] >> 4);
  }
  for (int i = 0; i < super_block_elements; ++i) out.codes[i] = int8_t(pair_of(in.codes, i) - 2);
}
void open_block(const BlockQ3_K& in, OpenBlock& out) {
  out.d = in.d;
  for (int g = 0; g < 16; ++g) out.sc[g] = int8_t(unpack_q3_scale(in.scales, g));
  for (int i = 0; i < super_block_elements; ++i) {
    const int bit = (in.high[i % 32] >> (i / 32)) & 1;
    out.codes[i] = int8_t(pair_of(in.codes, i) - 4 * (1 - bit));
  }
}
// Scales, minima and the low four bits of Q4_K and Q5_K.
template <typename Block>
void open_quarters(const Block& in, OpenBlock& out) {
  out.d = in.d;
  out.dm = negated(in.dmin);
  const SuperBlockScales scales = unpack_k_scales(in.scales);
  for (int g = 0; g < 8; ++g) {
    out.sc[g] = int8_t(scales.scale[g]);
    out.mc[g] = int8_t(scales.minimum[g]);
  }
  for (int i = 0; i < super_block_elements; ++i) {
    const uint8_t byte = in.codes[i / 64 * 32 + i % 32];
    out.codes[i] = int8_t(i % 64 < 32 ? byte & 15 : byte >> 4);
  }
}
void open_block(const BlockQ4_K& in, OpenBlock& out) {
  open_quarters(in, out);
  for (int i = 0; i < super_block_elements; ++i) out.codes[i] -= 8;
}
void open_block(const BlockQ5_K& in, OpenBlock& out) {
  open_quarters(in, out);
  for (int i = 0; i < super_block_elements; ++i) {
    const int bit = (in.high[i % 32] >> (i / 32)) & 1;
    out.codes[i] = int8_t((out.codes[i] | bit << 4) - 16);
  }
}
void open_block(const BlockQ6_K& in, OpenBlock& out) {
  out.d = in.d;
  std::copy(std::begin(in.scales), std::end(in.scales), out.sc.begin());
  for (int i = 0; i < super_block_elements; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, j = i % 32;
    const uint8_t low = in.codes[64 * half + 32 * (quarter % 2) + j];
    const int high = (in.high[32 * half + j] >> (2 * quarter)) & 3;
    out.codes[i] = int8_t(((quarter < 2 ? low & 15 : low >> 4) | high << 4) - 32);
  }
}
void open_block(const BlockIQ4_XS& in, OpenBlock& out) {
  out.d = in.d;
  for (int g = 0; g < 8; ++g) out.sc[g] = int8_t(unpack_iq4_xs_scale(in, g));
  for (int i = 0; i < super_block_elements; ++i) {
    out.codes[i] = iq4_codebook[nibble_of(in.codes + i / 32 * 16, i % 32)];
  }
}

using OpenBlockFunction = void (*)(const std::byte*, OpenBlock&);
template <typename Block>
void open_bytes(const std::byte* bytes, OpenBlock& out) {
  Block block;
  std::memcpy(&block, bytes, sizeof(block));
  open_block(block, out);
}

struct QuantizedType {
  DType dtype;
  QuantizedFormat format;  // code_bits, group, span, has_scales, has_minimum, offset
  OpenBlockFunction open;
};
constexpr QuantizedType quantized_types[] = {
    {DType::q4_0, {4, 32, 32, 0, 0, 0}, open_bytes<BlockQ4_0>},
    {DType::q4_1, {4, 32, 32, 0, 1, 8}, open_bytes<BlockQ4_1>},
    {DType::q5_0, {8, 32, 32, 0, 0, 0}, open_bytes<BlockQ5_0>},
    {DType::q5_1, {8, 32, 32, 0, 1, 16}, open_bytes<BlockQ5_1>},
    {DType::q8_0, {8, 32, 32, 0, 0, 0}, open_bytes<BlockQ8_0>},
    {DType::q2_k, {4, 16, 256, 1, 1, 2}, open_bytes<BlockQ2_K>},
    {DType::q3_k, {4, 16, 256, 1, 0, 0}, open_bytes<BlockQ3_K>},
    {DType::q4_k, {4, 32, 256, 1, 1, 8}, open_bytes<BlockQ4_K>},
    {DType::q5_k, {8, 32, 256, 1, 1, 16}, open_bytes<BlockQ5_K>},
    {DType::q6_k, {8, 16, 256, 1, 0, 0}, open_bytes<BlockQ6_K>},
    {DType::iq4_nl, {8, 32, 32, 0, 0, 0}, open_bytes<BlockIQ4_NL>},
    {DType::iq4_xs, {8, 32, 256, 1, 0, 0}, open_bytes<BlockIQ4_XS>},
    {DType::mxfp4, {8, 32, 32, 0, 0, 0}, open_bytes<BlockMXFP4>},
};

const QuantizedType& quantized_type(DType dtype) {
  for (const QuantizedType& type : quantized_types) {
    if (type.dtype == dtype) return type;
  }
  throw Error(ErrorCode::unsupported,
              "weights of " + std::string(name(dtype)) + " are not quantised blocks");
}

}  // namespace

QuantizedFormat quantized_format(DType dtype) { return quantized_type(dtype).format; }

QuantizedNzBytes quantized_bytes(DType dtype, uint32_t n, uint32_t k) {
  const QuantizedFormat& format = quantized_type(dtype).format;
  const uint64_t n_padded = up_to(uint64_t{n}, quantized_columns);
  const uint64_t k_padded = up_to(uint64_t{k}, 256 / format.code_bits);
  const uint64_t halves = k_padded / format.span * n_padded;
  const uint64_t group_codes = k_padded / format.group * n_padded;
  const uint64_t parts = format.has_minimum ? 2 : 1;
  return {k_padded * n_padded * format.code_bits / 8,
          parts * (halves * 2 + (format.has_scales ? group_codes : 0))};
}

QuantizedNz pack_quantized(DType dtype, std::span<const std::byte> blocks, uint32_t n,
                           uint32_t k) {
  const auto& [_, format, open] = quantized_type(dtype);
  const auto block_k = static_cast<uint32_t>(traits(dtype).block_elements);
  const auto block_bytes = static_cast<uint32_t>(traits(dtype).block_bytes);
  const uint32_t fractal_k = 256 / format.code_bits;
  const uint32_t n_padded = up_to(n, quantized_columns);
  const uint32_t k_padded = up_to(k, fractal_k);
  const size_t halves = size_t{k_padded / format.span} * n_padded;
  const size_t group_codes = size_t{k_padded / format.group} * n_padded;
  const size_t parts = format.has_minimum ? 2 : 1;
  const QuantizedNzBytes bytes = quantized_bytes(dtype, n, k);
  QuantizedNz packed;
  packed.codes.resize(bytes.codes);
  packed.scales.resize(bytes.scales);
  std::byte* const d = packed.scales.data();
  std::byte* const dm = d + halves * 2;
  std::byte* const sc = d + parts * halves * 2;
  std::byte* const mc = sc + group_codes;
  OpenBlock block;
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t b = 0; b < k / block_k; ++b) {
      open(blocks.data() + (size_t{row} * (k / block_k) + b) * block_bytes, block);
      const size_t half_at = (size_t{b} * n_padded + row) * 2;
      std::memcpy(d + half_at, &block.d, 2);
      if (format.has_minimum) std::memcpy(dm + half_at, &block.dm, 2);
      for (uint32_t g = 0; format.has_scales && g < block_k / format.group; ++g) {
        const size_t at = size_t{b * (block_k / format.group) + g} * n_padded + row;
        sc[at] = static_cast<std::byte>(block.sc[g]);
        if (format.has_minimum) mc[at] = static_cast<std::byte>(block.mc[g]);
      }
      for (uint32_t i = 0; i < block_k; ++i) {
        const uint32_t column = b * block_k + i;
        const size_t at = (size_t{column / fractal_k} * n_padded + row) * fractal_k +
                          column % fractal_k;
        const auto code = static_cast<uint8_t>(block.codes[i]);
        if (format.code_bits == 8) {
          packed.codes[at] = std::byte(code);
        } else {
          packed.codes[at / 2] |= std::byte((code & 15) << (at % 2 * 4));
        }
      }
    }
  }
  return packed;
}

std::vector<std::byte> pack_table(DType dtype, std::span<const std::byte> blocks, uint32_t rows,
                                  uint32_t columns) {
  const auto& [_, format, open] = quantized_type(dtype);
  const auto block_columns = static_cast<uint32_t>(traits(dtype).block_elements);
  const auto block_bytes = static_cast<uint32_t>(traits(dtype).block_bytes);
  const TableRow layout = table_row(format, columns);
  std::vector<std::byte> packed(size_t{rows} * layout.bytes);
  const auto put = [](std::byte* at, float value) { std::memcpy(at, &value, sizeof(value)); };
  OpenBlock block;
  for (uint32_t row = 0; row < rows; ++row) {
    std::byte* const codes = packed.data() + size_t{row} * layout.bytes;
    for (uint32_t b = 0; b < columns / block_columns; ++b) {
      open(blocks.data() + (size_t{row} * (columns / block_columns) + b) * block_bytes, block);
      for (uint32_t i = 0; i < block_columns; ++i) {
        // As in the file: about zero, their products would not be those that the minima are for.
        codes[b * block_columns + i] = static_cast<std::byte>(block.codes[i] + static_cast<int>(format.offset));
      }
      const float d = f16_to_f32(block.d), dm = f16_to_f32(block.dm);
      for (uint32_t g = 0; g < block_columns / format.group; ++g) {
        const size_t number = size_t{b} * (block_columns / format.group) + g;
        std::byte* const scale = codes + layout.scales_at + number * sizeof(float);
        put(scale, format.has_scales ? d * static_cast<float>(block.sc[g]) : d);
        if (!layout.has_minimum) continue;
        put(scale + size_t{layout.padded_groups} * sizeof(float),
            format.has_scales ? dm * static_cast<float>(block.mc[g]) : dm);
      }
    }
  }
  return packed;
}

SamplingRow sampling_row(float temperature, int top_k, float top_p, float min_p, uint64_t seed,
                         uint32_t choice, uint64_t token) {
  SamplingRow row{};
  row.temperature = temperature;
  row.top_k = static_cast<uint32_t>(top_k);
  if (top_p < 1) {
    int exponent = 0;
    const float fraction = std::frexp(top_p, &exponent);  // of 1/2 to 1
    row.top_p_mantissa = static_cast<uint32_t>(std::ldexp(fraction, 24));
    row.top_p_shift = static_cast<uint32_t>(24 - exponent);
  }
  const auto halves = [](uint64_t value, uint32_t (&to)[2]) {
    to[0] = static_cast<uint32_t>(value);
    to[1] = static_cast<uint32_t>(value >> 32);
  };
  if (min_p > 0) {
    row.least = std::max(1.0f, std::ceil(min_p * 0x1p40f));
    halves(static_cast<uint64_t>(row.least), row.least_weight);
  }
  halves(seed, row.seed);
  halves(token, row.token);
  row.choice = choice;
  return row;
}

namespace {

// Which elements of a head rotate together.
struct RopePair {
  uint32_t first, second;
};
RopePair rope_pair(const RopeTable& table, uint32_t pair) {
  const auto pairs = static_cast<uint32_t>(table.inverse_frequencies.size());
  if (table.pairs == RopePairs::neox) return {pair, pair + pairs};
  return {2 * pair, 2 * pair + 1};
}

}  // namespace

std::vector<uint32_t> rope_partners(const RopeTable& table) {
  const auto pairs = static_cast<uint32_t>(table.inverse_frequencies.size());
  std::vector<uint32_t> partners(2 * pairs);
  for (uint32_t pair = 0; pair < pairs; ++pair) {
    const auto [first, second] = rope_pair(table, pair);
    partners[first] = second * sizeof(float);
    partners[second] = first * sizeof(float);
  }
  return partners;
}

void fill_rotations(const RopeTable& table, std::span<const int32_t> positions,
                    std::span<float> rotations) {
  const auto pairs = static_cast<uint32_t>(table.inverse_frequencies.size());
  RIDGE_ASSERT(rotations.size() == positions.size() * 4 * pairs);
  for (size_t i = 0; i < positions.size(); ++i) {
    float* cosines = rotations.data() + i * 4 * pairs;
    float* sines = cosines + 2 * pairs;
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      const auto [first, second] = rope_pair(table, pair);
      // The angle rounds to float32, as where the models were trained.
      const float angle = static_cast<float>(positions[i]) * table.inverse_frequencies[pair];
      cosines[first] = cosines[second] =
          static_cast<float>(std::cos(double{angle}) * table.magnitude);
      sines[second] = static_cast<float>(std::sin(double{angle}) * table.magnitude);
      sines[first] = -sines[second];
    }
  }
}

}  // namespace ridge::backend::ascend
