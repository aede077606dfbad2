#include "tensor/quantize.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "tensor/quantize_search.h"

namespace ridge {

namespace {

// Chosen by the error on Gaussian and on heavy-tailed weights: wider or finer gains less than 0.1
// %.
constexpr Trials symmetric_trials = {-1.2f, 0.15f, 15};
constexpr Trials affine_trials = {-1.0f, 0.125f, 15};

using SimpleGroups = Groups<block_elements>;

// Codes of four groups, made from vectors and read by group.
template <int N>
struct Codes {
  uint8_t of[lanes][N];

  // `offset` makes them unsigned.
  void set(int i, Floats q, float offset = 0) {
    const Masks whole = __builtin_convertvector(q + offset, Masks);
    for (int lane = 0; lane < lanes; ++lane) of[lane][i] = static_cast<uint8_t>(whole[lane]);
  }
};

// Codes of a symmetric format, nearest for the scale as stored.
template <int N>
void choose_codes(const Groups<N>& groups, Floats scale, float low, float high, Codes<N>& codes) {
  const Floats reciprocal = inverse(scale);
  for (int i = 0; i < N; ++i) {
    codes.set(i, rounded(bounded(groups.x[i] * reciprocal, low, high)), -low);
  }
}

template <int N>
void choose_codes(const Groups<N>& groups, ScaleAndMinimum fit, float high, Codes<N>& codes) {
  const Floats reciprocal = inverse(fit.scale);
  for (int i = 0; i < N; ++i) {
    codes.set(i, rounded(bounded((groups.x[i] - fit.minimum) * reciprocal, 0, high)));
  }
}

template <int N>
void choose_codebook_codes(const Groups<N>& groups, Floats scale, Codes<N>& codes) {
  const Floats reciprocal = inverse(scale);
  for (int i = 0; i < N; ++i) {
    const Masks places = codebook_places(groups.x[i] * reciprocal);
    for (int lane = 0; lane < lanes; ++lane) {
      codes.of[lane][i] = codebook_table.code[places[lane]];
    }
  }
}

void pack_nibbles(const uint8_t (&codes)[32], uint8_t (&packed)[16]) {
  for (int i = 0; i < 16; ++i) {
    packed[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] << 4));
  }
}

void pack_fifth_bits(const uint8_t (&codes)[32], uint8_t (&high)[4]) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (codes[8 * byte + i] >> 4) << i;
    high[byte] = static_cast<uint8_t>(bits);
  }
}

// Each quantize_blocks turns up to four blocks of 32 elements, side by side, into `blocks`.

template <typename Block, int Low, int High>
void quantize_symmetric(const SimpleGroups& groups, Block (&blocks)[lanes],
                        Codes<block_elements>& codes) {
  std::array<f16_bits, lanes> d;
  const Floats scale = stored(search_scale(groups, Low, High, symmetric_trials), d);
  choose_codes(groups, scale, Low, High, codes);
  for (int lane = 0; lane < lanes; ++lane) {
    blocks[lane].d = d[lane];
    pack_nibbles(codes.of[lane], blocks[lane].codes);
  }
}

template <typename Block>
void quantize_affine(const SimpleGroups& groups, float high, Block (&blocks)[lanes],
                     Codes<block_elements>& codes) {
  AffineSearch search(groups, high, std::numeric_limits<float>::infinity());
  ScaleAndMinimum fit = search.search(affine_trials);
  std::array<f16_bits, lanes> d;
  fit.scale = stored(fit.scale, d);
  for (int lane = 0; lane < lanes; ++lane) {
    blocks[lane].d = d[lane];
    blocks[lane].m = f32_to_f16(fit.minimum[lane]);
    fit.minimum[lane] = f16_to_f32(blocks[lane].m);
  }
  choose_codes(groups, fit, high, codes);
  for (int lane = 0; lane < lanes; ++lane) pack_nibbles(codes.of[lane], blocks[lane].codes);
}

void quantize_blocks(const SimpleGroups& groups, BlockQ4_0 (&blocks)[lanes]) {
  Codes<block_elements> codes;
  quantize_symmetric<BlockQ4_0, -8, 7>(groups, blocks, codes);
}

void quantize_blocks(const SimpleGroups& groups, BlockQ5_0 (&blocks)[lanes]) {
  Codes<block_elements> codes;
  quantize_symmetric<BlockQ5_0, -16, 15>(groups, blocks, codes);
  for (int lane = 0; lane < lanes; ++lane) pack_fifth_bits(codes.of[lane], blocks[lane].high);
}

void quantize_blocks(const SimpleGroups& groups, BlockQ4_1 (&blocks)[lanes]) {
  Codes<block_elements> codes;
  quantize_affine(groups, 15, blocks, codes);
}

void quantize_blocks(const SimpleGroups& groups, BlockQ5_1 (&blocks)[lanes]) {
  Codes<block_elements> codes;
  quantize_affine(groups, 31, blocks, codes);
  for (int lane = 0; lane < lanes; ++lane) pack_fifth_bits(codes.of[lane], blocks[lane].high);
}

// Eight bits need no search: the peak at the last code, as everybody does.
void quantize_blocks(const SimpleGroups& groups, BlockQ8_0 (&blocks)[lanes]) {
  std::array<f16_bits, lanes> d;
  const Floats scale = stored(magnitude(groups.peak()) / 127.0f, d);
  const Floats reciprocal = inverse(scale);
  for (int i = 0; i < block_elements; ++i) {
    const Floats q = rounded(bounded(groups.x[i] * reciprocal, -127, 127));
    for (int lane = 0; lane < lanes; ++lane) blocks[lane].codes[i] = static_cast<int8_t>(q[lane]);
  }
  for (int lane = 0; lane < lanes; ++lane) blocks[lane].d = d[lane];
}

void quantize_blocks(const SimpleGroups& groups, BlockIQ4_NL (&blocks)[lanes]) {
  std::array<f16_bits, lanes> d;
  Floats scale = search_codebook_scale(groups);
  // The codebook has no zero, so that a scale must not be rounded up from next to nothing.
  scale = magnitude(scale) < 0x1p-25f ? all(0) : scale;
  scale = stored(scale, d);
  Codes<block_elements> codes;
  choose_codebook_codes(groups, scale, codes);
  for (int lane = 0; lane < lanes; ++lane) {
    blocks[lane].d = d[lane];
    pack_nibbles(codes.of[lane], blocks[lane].codes);
  }
}

// The code whose level is nearest to `value`, in units of 2^(e - 128).
uint8_t nearest_mxfp4_code(float value) {
  constexpr float midpoints[] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
  const float size = __builtin_fabsf(value);
  int code = 0;
  for (const float midpoint : midpoints) code += size > midpoint ? 1 : 0;
  return static_cast<uint8_t>(value < 0 && code > 0 ? code | 8 : code);
}

// Which powers of two are worth trying follows from the peak: it falls on one of the levels 4 to 6
// of E2M1, is cut to 6, or lies lower so that the others are finer or coarser.
void quantize_block(const SimpleGroups& groups, int lane, float peak, BlockMXFP4& block) {
  constexpr int bias = 127;
  int exponent = 0;
  if (peak > 0) __builtin_frexpf(peak, &exponent);  // peak is below 2^exponent
  float least = std::numeric_limits<float>::infinity();
  uint8_t codes[block_elements] = {};
  block.e = 0;
  for (int offset = -4; offset <= -2; ++offset) {
    const int e = peak > 0 ? std::clamp(exponent + offset + bias, 0, 254) : 0;
    const float d = bf16_to_f32(e8m0_half_to_bf16(static_cast<e8m0_bits>(e)));
    const float inverse = __builtin_ldexpf(1.0f, bias - e);
    float error = 0;
    uint8_t tried[block_elements];
    for (int i = 0; i < block_elements; ++i) {
      const float x = groups.x[i][lane];
      tried[i] = nearest_mxfp4_code(x * inverse * 2);
      const float difference = x - d * static_cast<float>(mxfp4_levels[tried[i]]);
      error += groups.weight[i][lane] * difference * difference;
    }
    if (error >= least) continue;
    least = error;
    block.e = static_cast<e8m0_bits>(e);
    std::ranges::copy(tried, codes);
  }
  pack_nibbles(codes, block.codes);
}

void quantize_blocks(const SimpleGroups& groups, BlockMXFP4 (&blocks)[lanes]) {
  const Floats peaks = magnitude(groups.peak());
  for (int lane = 0; lane < lanes; ++lane) {
    quantize_block(groups, lane, peaks[lane], blocks[lane]);
  }
}

// A super-block as sets of four groups of N elements.
template <int N>
struct SuperBlock {
  static constexpr int sets = super_block_elements / N / lanes;
  Groups<N> groups[sets];
  Codes<N> codes[sets];

  // weights: of the columns, or nullptr.
  SuperBlock(const float* values, const float* weights) {
    for (int set = 0; set < sets; ++set) {
      const int first = set * lanes * N;
      groups[set].load(values + first);
      groups[set].weigh(weights == nullptr ? nullptr : weights + first);
    }
  }

  // The code of element i of the super-block.
  uint8_t code(int i) const {
    const int group = i / N;
    return codes[group / lanes].of[group % lanes][i % N];
  }
};

// The error that `dequantized(i)` leaves.
template <int N, typename Dequantized>
Floats error_of(const Groups<N>& groups, Dequantized dequantized) {
  Floats error = all(0);
  for (int i = 0; i < N; ++i) {
    const Floats difference = groups.x[i] - dequantized(i);
    error += groups.weight[i] * difference * difference;
  }
  return error;
}

// The whole multiples of d and dmin, both 0 to 63, that fit each group best: the two nearest to
// what the search found and their neighbours, since one's rounding can mend the other's.
template <int N>
ScaleAndMinimum whole_multiples(const Groups<N>& groups, ScaleAndMinimum fit, float d, float dmin,
                                float high) {
  const Floats scale_at = rounded(bounded(fit.scale * inverse(all(d)), 0, 63));
  const Floats minimum_at = rounded(bounded(-fit.minimum * inverse(all(dmin)), 0, 63));
  ScaleAndMinimum best = {scale_at, minimum_at};
  Floats least = all(std::numeric_limits<float>::infinity());
  for (int across = -1; across <= 1; ++across) {
    for (int along = -1; along <= 1; ++along) {
      const Floats scales = bounded(scale_at + static_cast<float>(across), 0, 63);
      const Floats minima = bounded(minimum_at + static_cast<float>(along), 0, 63);
      const Floats scale = d * scales;
      const Floats minimum = dmin * minima;
      const Floats reciprocal = inverse(scale);
      const Floats error = error_of(groups, [&](int i) {
        const Floats q = rounded(bounded((groups.x[i] + minimum) * reciprocal, 0, high));
        return scale * q - minimum;
      });
      const Masks better = error < least;
      best.scale = better ? scales : best.scale;
      best.minimum = better ? minima : best.minimum;
      least = better ? error : least;
    }
  }
  return best;
}

void pack_k_scales(const uint8_t (&scale)[8], const uint8_t (&minimum)[8], uint8_t (&packed)[12]) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scale[g] | (scale[g + 4] >> 4) << 6);
    packed[g + 4] = static_cast<uint8_t>(minimum[g] | (minimum[g + 4] >> 4) << 6);
    packed[g + 8] = static_cast<uint8_t>((scale[g + 4] & 15) | (minimum[g + 4] & 15) << 4);
  }
}

// What Q4_K and Q5_K share: codes from 0 to `high`, and the scales.
template <typename Block>
void quantize_k(SuperBlock<32>& super, float high, Block& block) {
  constexpr int sets = SuperBlock<32>::sets;
  ScaleAndMinimum fits[sets];
  float scale_max = 0;
  float depth_max = 0;
  for (int set = 0; set < sets; ++set) {
    fits[set] = AffineSearch(super.groups[set], high, /*minimum_max=*/0).search(affine_trials);
    for (int lane = 0; lane < lanes; ++lane) {
      scale_max = std::max(scale_max, fits[set].scale[lane]);
      depth_max = std::max(depth_max, -fits[set].minimum[lane]);
    }
  }
  block.d = stored_scale(scale_max / 63);
  block.dmin = stored_scale(depth_max / 63);
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  uint8_t scale[8];
  uint8_t minimum[8];
  for (int set = 0; set < sets; ++set) {
    const ScaleAndMinimum whole = whole_multiples(super.groups[set], fits[set], d, dmin, high);
    choose_codes(super.groups[set], {d * whole.scale, -(dmin * whole.minimum)}, high,
                 super.codes[set]);
    for (int lane = 0; lane < lanes; ++lane) {
      scale[lanes * set + lane] = static_cast<uint8_t>(whole.scale[lane]);
      minimum[lanes * set + lane] = static_cast<uint8_t>(whole.minimum[lane]);
    }
  }
  pack_k_scales(scale, minimum, block.scales);
  for (int i = 0; i < 128; ++i) {
    const int element = 64 * (i / 32) + i % 32;
    block.codes[i] =
        static_cast<uint8_t>((super.code(element) & 15) | (super.code(element + 32) & 15) << 4);
  }
}

void quantize_super_block(const float* values, const float* weights, BlockQ4_K& block) {
  SuperBlock<32> super(values, weights);
  quantize_k(super, 15, block);
}

void quantize_super_block(const float* values, const float* weights, BlockQ5_K& block) {
  SuperBlock<32> super(values, weights);
  quantize_k(super, 31, block);
  for (int i = 0; i < 32; ++i) {
    int bits = 0;
    for (int group = 0; group < 8; ++group) bits |= (super.code(32 * group + i) >> 4) << group;
    block.high[i] = static_cast<uint8_t>(bits);
  }
}

// Whole multiples of one d for all groups of a super-block, of a format without minima.
//   search(groups) → the best scales; nearest(x / scale) → the value of the nearest code.
//   low, high: of the multiples; the greatest scale falls on `low`.
template <int N, typename Search, typename Nearest>
f16_bits share_scale(const SuperBlock<N>& super, float low, float high, Search search,
                     Nearest nearest, Floats (&whole)[SuperBlock<N>::sets]) {
  constexpr int sets = SuperBlock<N>::sets;
  Floats scales[sets];
  float peak = 0;
  for (int set = 0; set < sets; ++set) {
    scales[set] = search(super.groups[set]);
    for (int lane = 0; lane < lanes; ++lane) {
      const float scale = scales[set][lane];
      if (__builtin_fabsf(scale) > __builtin_fabsf(peak)) peak = scale;
    }
  }
  const f16_bits bits = stored_scale(peak / low);
  const float d = f16_to_f32(bits);
  for (int set = 0; set < sets; ++set) {
    const Groups<N>& groups = super.groups[set];
    const Floats at = rounded(bounded(scales[set] * inverse(all(d)), low, high));
    Floats least = all(std::numeric_limits<float>::infinity());
    for (int along = -1; along <= 1; ++along) {
      const Floats multiple = bounded(at + static_cast<float>(along), low, high);
      const Floats scale = d * multiple;
      const Floats reciprocal = inverse(scale);
      const Floats error =
          error_of(groups, [&](int i) { return scale * nearest(groups.x[i] * reciprocal); });
      const Masks better = error < least;
      whole[set] = better ? multiple : whole[set];
      least = better ? error : least;
    }
  }
  return bits;
}

void quantize_super_block(const float* values, const float* weights, BlockQ6_K& block) {
  constexpr float low = -32;
  constexpr float high = 31;
  SuperBlock<16> super(values, weights);
  Floats whole[SuperBlock<16>::sets];
  block.d = share_scale(
      super, -128, 127,
      [](const Groups<16>& groups) { return search_scale(groups, low, high, symmetric_trials); },
      [](Floats value) { return rounded(bounded(value, low, high)); }, whole);
  for (int set = 0; set < SuperBlock<16>::sets; ++set) {
    choose_codes(super.groups[set], f16_to_f32(block.d) * whole[set], low, high, super.codes[set]);
    for (int lane = 0; lane < lanes; ++lane) {
      block.scales[lanes * set + lane] = static_cast<int8_t>(whole[set][lane]);
    }
  }
  for (int half = 0; half < 2; ++half) {
    for (int j = 0; j < 32; ++j) {
      uint8_t code[4];
      for (int k = 0; k < 4; ++k) code[k] = super.code(128 * half + 32 * k + j);
      uint8_t* low_bits = block.codes + 64 * half + j;
      low_bits[0] = static_cast<uint8_t>((code[0] & 15) | (code[2] & 15) << 4);
      low_bits[32] = static_cast<uint8_t>((code[1] & 15) | (code[3] & 15) << 4);
      block.high[32 * half + j] = static_cast<uint8_t>(code[0] >> 4 | (code[1] >> 4) << 2 |
                                                       (code[2] >> 4) << 4 | (code[3] >> 4) << 6);
    }
  }
}

void quantize_super_block(const float* values, const float* weights, BlockIQ4_XS& block) {
  SuperBlock<32> super(values, weights);
  Floats whole[SuperBlock<32>::sets];
  block.d = share_scale(super, -32, 31, search_codebook_scale<32>, nearest_codebook_value, whole);
  block.scales_high = 0;
  std::ranges::fill(block.scales_low, uint8_t{0});
  for (int group = 0; group < 8; ++group) {
    const int scale = static_cast<int>(whole[group / lanes][group % lanes]) + 32;
    block.scales_low[group / 2] |= static_cast<uint8_t>((scale & 15) << (4 * (group % 2)));
    block.scales_high |= static_cast<uint16_t>((scale >> 4) << (2 * group));
  }
  for (int set = 0; set < SuperBlock<32>::sets; ++set) {
    Codes<32>& codes = super.codes[set];
    choose_codebook_codes(super.groups[set], f16_to_f32(block.d) * whole[set], codes);
    for (int lane = 0; lane < lanes; ++lane) {
      uint8_t packed[16];
      pack_nibbles(codes.of[lane], packed);
      std::memcpy(block.codes + 16 * (lanes * set + lane), packed, sizeof(packed));
    }
  }
}

// A row's values and the weights of its columns, which may be empty.
struct WeightedRow {
  std::span<const float> values;
  std::span<const float> weights;

  const float* weights_at(size_t column) const {
    return weights.empty() ? nullptr : weights.data() + column;
  }
};

template <typename Block>
void quantize_simple(const WeightedRow& row, std::byte* out) {
  const std::span<const float> values = row.values;
  const size_t blocks = values.size() / block_elements;
  for (size_t b = 0; b < blocks; b += lanes) {
    const int count = static_cast<int>(std::min<size_t>(lanes, blocks - b));
    SimpleGroups groups;
    groups.load(values.data() + b * block_elements, count);
    groups.weigh(row.weights_at(b * block_elements), count);
    Block made[lanes];
    quantize_blocks(groups, made);
    std::memcpy(out + b * sizeof(Block), made, static_cast<size_t>(count) * sizeof(Block));
  }
}

template <typename Block>
void quantize_super(const WeightedRow& row, std::byte* out) {
  for (size_t b = 0; b < row.values.size() / super_block_elements; ++b) {
    Block block;
    const size_t first = b * super_block_elements;
    quantize_super_block(row.values.data() + first, row.weights_at(first), block);
    std::memcpy(out + b * sizeof(Block), &block, sizeof(Block));
  }
}

template <typename Convert>
void convert_to_halves(std::span<const float> values, std::byte* out, Convert convert) {
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = convert(values[i]);
    std::memcpy(out + i * sizeof(half), &half, sizeof(half));
  }
}

}  // namespace

bool can_quantize(DType dtype) {
  switch (dtype) {
    case DType::i8:
    case DType::i32:
    case DType::q2_k:
    case DType::q3_k:
      return false;
    default:
      return true;
  }
}

bool searches_scales(DType dtype) {
  return is_quantized(dtype) && can_quantize(dtype) && dtype != DType::q8_0;
}

void quantize_row(DType dtype, std::span<const float> values, std::span<std::byte> out,
                  std::span<const float> column_weights) {
  RIDGE_ASSERT(out.size() == row_bytes(dtype, static_cast<int64_t>(values.size())));
  RIDGE_ASSERT(column_weights.empty() || column_weights.size() == values.size());
  const WeightedRow row{values, column_weights};
  switch (dtype) {
    case DType::f32:
      return void(std::memcpy(out.data(), values.data(), values.size_bytes()));
    case DType::f16:
      return convert_to_halves(values, out.data(), f32_to_f16);
    case DType::bf16:
      return convert_to_halves(values, out.data(), f32_to_bf16);
    case DType::q4_0:
      return quantize_simple<BlockQ4_0>(row, out.data());
    case DType::q4_1:
      return quantize_simple<BlockQ4_1>(row, out.data());
    case DType::q5_0:
      return quantize_simple<BlockQ5_0>(row, out.data());
    case DType::q5_1:
      return quantize_simple<BlockQ5_1>(row, out.data());
    case DType::q8_0:
      return quantize_simple<BlockQ8_0>(row, out.data());
    case DType::q4_k:
      return quantize_super<BlockQ4_K>(row, out.data());
    case DType::q5_k:
      return quantize_super<BlockQ5_K>(row, out.data());
    case DType::q6_k:
      return quantize_super<BlockQ6_K>(row, out.data());
    case DType::iq4_nl:
      return quantize_simple<BlockIQ4_NL>(row, out.data());
    case DType::iq4_xs:
      return quantize_super<BlockIQ4_XS>(row, out.data());
    case DType::mxfp4:
      return quantize_simple<BlockMXFP4>(row, out.data());
    case DType::i8:
    case DType::i32:
    case DType::q2_k:
    case DType::q3_k:
      break;
  }
  RIDGE_ASSERT(!"a dtype that is not written");
}

}  // namespace ridge
