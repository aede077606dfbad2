#include "backend/cpu/tile_format.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "tensor/blocks.h"

namespace ridge::backend::cpu {

namespace {

// One block taken apart; `codes` are unsigned as in the tiles (those of levels keep the index).
struct BlockParts {
  std::array<uint8_t, 256> codes{};
  uint16_t d = 0;
  uint16_t dmin = 0;                // the min itself in simple formats
  std::array<int8_t, 16> scales{};  // super formats, [256 / group]
  std::array<int8_t, 16> mins{};
};

template <typename Block>
Block load_block(const std::byte* bytes) {
  Block block;  // copied out, because file rows stand at any address
  std::memcpy(&block, bytes, sizeof(Block));
  return block;
}

void split_nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[i + 16] = packed[i] >> 4;
  }
}

void join_nibbles(const uint8_t* codes, uint8_t* packed) {
  for (int i = 0; i < 16; ++i) {
    packed[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] << 4));
  }
}

void split(const BlockQ4_0& b, BlockParts& p) {
  p.d = b.d;
  split_nibbles(b.codes, p.codes.data());
}
void join(const BlockParts& p, BlockQ4_0& b) {
  b.d = p.d;
  join_nibbles(p.codes.data(), b.codes);
}

void split(const BlockIQ4_NL& b, BlockParts& p) {
  p.d = b.d;
  split_nibbles(b.codes, p.codes.data());
}
void join(const BlockParts& p, BlockIQ4_NL& b) {
  b.d = p.d;
  join_nibbles(p.codes.data(), b.codes);
}

void split(const BlockMXFP4& b, BlockParts& p) {
  p.d = e8m0_half_to_bf16(b.e);
  split_nibbles(b.codes, p.codes.data());
}
void join(const BlockParts& p, BlockMXFP4& b) {
  b.e = bf16_to_e8m0_half(p.d);
  join_nibbles(p.codes.data(), b.codes);
}

void split(const BlockQ4_1& b, BlockParts& p) {
  p.d = b.d;
  p.dmin = b.m;
  split_nibbles(b.codes, p.codes.data());
}
void join(const BlockParts& p, BlockQ4_1& b) {
  b.d = p.d;
  b.m = p.dmin;
  join_nibbles(p.codes.data(), b.codes);
}

template <typename Block>
void split_five_bits(const Block& b, BlockParts& p) {
  split_nibbles(b.codes, p.codes.data());
  for (int i = 0; i < 32; ++i) p.codes[i] |= ((b.high[i / 8] >> (i % 8)) & 1) << 4;
}
template <typename Block>
void join_five_bits(const BlockParts& p, Block& b) {
  join_nibbles(p.codes.data(), b.codes);
  std::memset(b.high, 0, sizeof(b.high));
  for (int i = 0; i < 32; ++i) b.high[i / 8] |= (p.codes[i] >> 4) << (i % 8);
}

void split(const BlockQ5_0& b, BlockParts& p) {
  p.d = b.d;
  split_five_bits(b, p);
}
void join(const BlockParts& p, BlockQ5_0& b) {
  b.d = p.d;
  join_five_bits(p, b);
}

void split(const BlockQ5_1& b, BlockParts& p) {
  p.d = b.d;
  p.dmin = b.m;
  split_five_bits(b, p);
}
void join(const BlockParts& p, BlockQ5_1& b) {
  b.d = p.d;
  b.m = p.dmin;
  join_five_bits(p, b);
}

void split(const BlockQ8_0& b, BlockParts& p) {
  p.d = b.d;
  for (int i = 0; i < 32; ++i) p.codes[i] = static_cast<uint8_t>(b.codes[i]) ^ 0x80;
}
void join(const BlockParts& p, BlockQ8_0& b) {
  b.d = p.d;
  for (int i = 0; i < 32; ++i) b.codes[i] = static_cast<int8_t>(p.codes[i] ^ 0x80);
}

// Part of the codes of 32 elements. In every K format these lie side by side, so the compiler makes
// a few vector operations of it.
void set_bits(const uint8_t* packed, int shift, int mask, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>((packed[i] >> shift) & mask);
}
void add_bits(const uint8_t* packed, int shift, int mask, int to_bit, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] |= ((packed[i] >> shift) & mask) << to_bit;
}

// Two bits of element i in the order of Q2_K and Q3_K.
int two_bit_byte(int i) { return 32 * (i / 128) + i % 32; }
int two_bit_shift(int i) { return 2 * (i % 128 / 32); }

void split(const BlockQ2_K& b, BlockParts& p) {
  p.d = b.d;
  p.dmin = b.dmin;
  for (int g = 0; g < 16; ++g) {
    p.scales[g] = static_cast<int8_t>(b.scales[g] & 15);
    p.mins[g] = static_cast<int8_t>(b.scales[g] >> 4);
  }
  for (int i = 0; i < 256; i += 32) {
    set_bits(b.codes + two_bit_byte(i), two_bit_shift(i), 3, p.codes.data() + i);
  }
}
void join(const BlockParts& p, BlockQ2_K& b) {
  b.d = p.d;
  b.dmin = p.dmin;
  for (int g = 0; g < 16; ++g) b.scales[g] = static_cast<uint8_t>(p.scales[g] | (p.mins[g] << 4));
  std::memset(b.codes, 0, sizeof(b.codes));
  for (int i = 0; i < 256; ++i) b.codes[two_bit_byte(i)] |= p.codes[i] << two_bit_shift(i);
}

void split(const BlockQ3_K& b, BlockParts& p) {
  p.d = b.d;
  for (int g = 0; g < 16; ++g) p.scales[g] = static_cast<int8_t>(unpack_q3_scale(b.scales, g));
  for (int i = 0; i < 256; i += 32) {
    set_bits(b.codes + two_bit_byte(i), two_bit_shift(i), 3, p.codes.data() + i);
    add_bits(b.high, i / 32, 1, 2, p.codes.data() + i);
  }
}
void join(const BlockParts& p, BlockQ3_K& b) {
  b.d = p.d;
  std::memset(b.scales, 0, sizeof(b.scales));
  std::memset(b.codes, 0, sizeof(b.codes));
  std::memset(b.high, 0, sizeof(b.high));
  for (int g = 0; g < 16; ++g) {
    const int scale = p.scales[g] + 32;
    b.scales[g % 8] |= (scale & 15) << (g < 8 ? 0 : 4);
    b.scales[8 + g % 4] |= (scale >> 4) << (2 * (g / 4));
  }
  for (int i = 0; i < 256; ++i) {
    b.codes[two_bit_byte(i)] |= (p.codes[i] & 3) << two_bit_shift(i);
    b.high[i % 32] |= (p.codes[i] >> 2) << (i / 32);
  }
}

void split_k_scales(const uint8_t (&packed)[12], BlockParts& p) {
  const SuperBlockScales unpacked = unpack_k_scales(packed);
  for (int g = 0; g < 8; ++g) {
    p.scales[g] = static_cast<int8_t>(unpacked.scale[g]);
    p.mins[g] = static_cast<int8_t>(unpacked.minimum[g]);
  }
}
void join_k_scales(const BlockParts& p, uint8_t (&packed)[12]) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(p.scales[g] | ((p.scales[g + 4] >> 4) << 6));
    packed[g + 4] = static_cast<uint8_t>(p.mins[g] | ((p.mins[g + 4] >> 4) << 6));
    packed[g + 8] = static_cast<uint8_t>((p.scales[g + 4] & 15) | ((p.mins[g + 4] & 15) << 4));
  }
}

// Element i's nibble in the order of Q4_K and Q5_K.
int k_byte(int i) { return 32 * (i / 64) + i % 32; }
int k_shift(int i) { return i % 64 < 32 ? 0 : 4; }

void split(const BlockQ4_K& b, BlockParts& p) {
  p.d = b.d;
  p.dmin = b.dmin;
  split_k_scales(b.scales, p);
  for (int i = 0; i < 256; i += 32) {
    set_bits(b.codes + k_byte(i), k_shift(i), 15, p.codes.data() + i);
  }
}
void join(const BlockParts& p, BlockQ4_K& b) {
  b.d = p.d;
  b.dmin = p.dmin;
  join_k_scales(p, b.scales);
  std::memset(b.codes, 0, sizeof(b.codes));
  for (int i = 0; i < 256; ++i) b.codes[k_byte(i)] |= p.codes[i] << k_shift(i);
}

void split(const BlockQ5_K& b, BlockParts& p) {
  p.d = b.d;
  p.dmin = b.dmin;
  split_k_scales(b.scales, p);
  for (int i = 0; i < 256; i += 32) {
    set_bits(b.codes + k_byte(i), k_shift(i), 15, p.codes.data() + i);
    add_bits(b.high, i / 32, 1, 4, p.codes.data() + i);
  }
}
void join(const BlockParts& p, BlockQ5_K& b) {
  b.d = p.d;
  b.dmin = p.dmin;
  join_k_scales(p, b.scales);
  std::memset(b.codes, 0, sizeof(b.codes));
  std::memset(b.high, 0, sizeof(b.high));
  for (int i = 0; i < 256; ++i) {
    b.codes[k_byte(i)] |= (p.codes[i] & 15) << k_shift(i);
    b.high[i % 32] |= (p.codes[i] >> 4) << (i / 32);
  }
}

// Where the low nibble of element i of a Q6_K block stands.
int q6_byte(int i) { return 64 * (i / 128) + 32 * (i % 128 / 32 % 2) + i % 32; }
int q6_shift(int i) { return i % 128 < 64 ? 0 : 4; }

void split(const BlockQ6_K& b, BlockParts& p) {
  p.d = b.d;
  std::memcpy(p.scales.data(), b.scales, 16);
  for (int i = 0; i < 256; i += 32) {
    set_bits(b.codes + q6_byte(i), q6_shift(i), 15, p.codes.data() + i);
    add_bits(b.high + two_bit_byte(i), two_bit_shift(i), 3, 4, p.codes.data() + i);
  }
}
void join(const BlockParts& p, BlockQ6_K& b) {
  b.d = p.d;
  std::memcpy(b.scales, p.scales.data(), 16);
  std::memset(b.codes, 0, sizeof(b.codes));
  std::memset(b.high, 0, sizeof(b.high));
  for (int i = 0; i < 256; ++i) {
    b.codes[q6_byte(i)] |= (p.codes[i] & 15) << q6_shift(i);
    b.high[two_bit_byte(i)] |= (p.codes[i] >> 4) << two_bit_shift(i);
  }
}

void split(const BlockIQ4_XS& b, BlockParts& p) {
  p.d = b.d;
  for (int g = 0; g < 8; ++g) {
    p.scales[g] = static_cast<int8_t>(unpack_iq4_xs_scale(b, g));
    split_nibbles(b.codes + 16 * g, p.codes.data() + 32 * g);
  }
}
void join(const BlockParts& p, BlockIQ4_XS& b) {
  b.d = p.d;
  b.scales_high = 0;
  std::memset(b.scales_low, 0, sizeof(b.scales_low));
  for (int g = 0; g < 8; ++g) {
    const int scale = p.scales[g] + 32;
    b.scales_low[g / 2] |= (scale & 15) << (4 * (g % 2));
    b.scales_high |= static_cast<uint16_t>((scale >> 4) << (2 * g));
    join_nibbles(p.codes.data() + 32 * g, b.codes + 16 * g);
  }
}

template <typename Block>
void join_as(const BlockParts& parts, std::byte* bytes) {
  Block block;
  join(parts, block);
  std::memcpy(bytes, &block, sizeof(Block));
}

// Where in the codes of 32 columns a plane keeps its part of one code, as TileFormat's table says.
struct PlaceInPlane {
  int byte;
  int shift;
};

constexpr PlaceInPlane in_bytes(int quad) { return {64 * quad, 0}; }
constexpr PlaceInPlane in_nibbles(int quad) { return {64 * (quad % 4), quad < 4 ? 0 : 4}; }
constexpr PlaceInPlane in_pairs(int quad) { return {64 * (quad / 4), 2 * (quad % 4)}; }
constexpr PlaceInPlane in_bits(int quad) { return {0, quad}; }

struct Plane {
  PlaceInPlane (*place)(int quad);
  int at;        // byte offset of the plane
  int low_bit;   // of the code's part that it keeps
  uint8_t mask;  // of that part
};

// The planes of a format, lowest bits first; unused ones have no `place`.
constexpr std::array<Plane, 2> planes_of(const TileFormat& format) {
  switch (format.bits) {
    case 8:
      return {{{&in_bytes, 0, 0, 255}, {}}};
    case 2:
      return {{{&in_pairs, 0, 0, 3}, {}}};
    case 3:
      return {{{&in_pairs, 0, 0, 3}, {&in_bits, 128, 2, 1}}};
    case 5:
      return {{{&in_nibbles, 0, 0, 15}, {&in_bits, 256, 4, 1}}};
    case 6:
      return {{{&in_nibbles, 0, 0, 15}, {&in_pairs, 256, 4, 3}}};
    default:
      return {{{&in_nibbles, 0, 0, 15}, {}}};
  }
}

// One row's codes of 32 columns into their places at `to`, which are zero before; a quad's four
// bytes at once.
template <DType dtype>
void place_codes(const uint8_t* codes, int row, std::byte* to) {
  constexpr std::array<Plane, 2> planes = planes_of(tile_format(dtype));
  std::array<uint32_t, 8> quads;
  std::memcpy(quads.data(), codes, sizeof(quads));
  for (const Plane& plane : planes) {
    if (plane.place == nullptr) continue;
    for (int quad = 0; quad < 8; ++quad) {
      const PlaceInPlane place = plane.place(quad);
      std::byte* const at = to + plane.at + place.byte + 4 * row;
      uint32_t word;
      std::memcpy(&word, at, sizeof(word));
      word |= ((quads[quad] >> plane.low_bit) & (plane.mask * 0x01010101u)) << place.shift;
      std::memcpy(at, &word, sizeof(word));
    }
  }
}

void take_codes(const std::array<Plane, 2>& planes, const std::byte* from, int row,
                uint8_t* codes) {
  std::memset(codes, 0, 32);
  for (const Plane& plane : planes) {
    if (plane.place == nullptr) continue;
    for (int quad = 0; quad < 8; ++quad) {
      const PlaceInPlane place = plane.place(quad);
      const auto* at = reinterpret_cast<const uint8_t*>(from) + plane.at + place.byte + 4 * row;
      for (int i = 0; i < 4; ++i) {
        codes[4 * quad + i] |= ((at[i] >> place.shift) & plane.mask) << plane.low_bit;
      }
    }
  }
}

void store_u16(std::byte* at, int index, uint16_t value) { std::memcpy(at + 2 * index, &value, 2); }
uint16_t load_u16(const std::byte* at, int index) {
  uint16_t value;
  std::memcpy(&value, at + 2 * index, 2);
  return value;
}

template <typename Block, DType dtype>
void pack_as(const std::byte* const* rows, int count, int64_t columns, std::byte* strip) {
  constexpr TileFormat format = tile_format(dtype);
  constexpr int elements = format.super ? super_block_elements : block_elements;
  constexpr int blocks_per_unit = format.unit_columns() / elements;
  std::memset(strip, 0, static_cast<size_t>(units_of(format, columns)) * format.unit_bytes());
  BlockParts parts;
  for (int64_t block = 0; block < columns / elements; ++block) {
    std::byte* const unit = strip + block / blocks_per_unit * format.unit_bytes();
    const auto in_unit = static_cast<int>(block % blocks_per_unit);
    for (int row = 0; row < count; ++row) {
      split(load_block<Block>(rows[row] + block * sizeof(Block)), parts);
      if constexpr (format.super) {
        store_u16(unit, row, parts.d);
        store_u16(unit, strip_rows + row, parts.dmin);
        for (int g = 0; g < format.groups(); ++g) {
          unit[format.scales_at() + g * strip_rows + row] = std::byte(parts.scales[g]);
          if (format.has_min)
            unit[format.mins_at() + g * strip_rows + row] = std::byte(parts.mins[g]);
        }
      } else {
        store_u16(unit + format.scales_at(), in_unit * strip_rows + row, parts.d);
        if (format.has_min) {
          store_u16(unit + format.mins_at(), in_unit * strip_rows + row, parts.dmin);
        }
      }
      std::byte* const codes =
          unit + format.codes_at() + in_unit * elements / 32 * format.code_bytes();
      for (int g = 0; g < elements / 32; ++g) {
        place_codes<dtype>(parts.codes.data() + 32 * g, row, codes + g * format.code_bytes());
      }
    }
  }
}

}  // namespace

void join_block(DType dtype, const BlockParts& parts, std::byte* block) {
  switch (dtype) {
    case DType::q4_0:
      return join_as<BlockQ4_0>(parts, block);
    case DType::q4_1:
      return join_as<BlockQ4_1>(parts, block);
    case DType::q5_0:
      return join_as<BlockQ5_0>(parts, block);
    case DType::q5_1:
      return join_as<BlockQ5_1>(parts, block);
    case DType::q8_0:
      return join_as<BlockQ8_0>(parts, block);
    case DType::q2_k:
      return join_as<BlockQ2_K>(parts, block);
    case DType::q3_k:
      return join_as<BlockQ3_K>(parts, block);
    case DType::q4_k:
      return join_as<BlockQ4_K>(parts, block);
    case DType::q5_k:
      return join_as<BlockQ5_K>(parts, block);
    case DType::q6_k:
      return join_as<BlockQ6_K>(parts, block);
    case DType::iq4_nl:
      return join_as<BlockIQ4_NL>(parts, block);
    case DType::iq4_xs:
      return join_as<BlockIQ4_XS>(parts, block);
    case DType::mxfp4:
      return join_as<BlockMXFP4>(parts, block);
    default:
      RIDGE_ASSERT(!"a quantised dtype");
  }
}

void pack_strip(DType dtype, const std::byte* const* rows, int count, int64_t columns,
                std::byte* strip) {
  switch (dtype) {
    case DType::q4_0:
      return pack_as<BlockQ4_0, DType::q4_0>(rows, count, columns, strip);
    case DType::q4_1:
      return pack_as<BlockQ4_1, DType::q4_1>(rows, count, columns, strip);
    case DType::q5_0:
      return pack_as<BlockQ5_0, DType::q5_0>(rows, count, columns, strip);
    case DType::q5_1:
      return pack_as<BlockQ5_1, DType::q5_1>(rows, count, columns, strip);
    case DType::q8_0:
      return pack_as<BlockQ8_0, DType::q8_0>(rows, count, columns, strip);
    case DType::q2_k:
      return pack_as<BlockQ2_K, DType::q2_k>(rows, count, columns, strip);
    case DType::q3_k:
      return pack_as<BlockQ3_K, DType::q3_k>(rows, count, columns, strip);
    case DType::q4_k:
      return pack_as<BlockQ4_K, DType::q4_k>(rows, count, columns, strip);
    case DType::q5_k:
      return pack_as<BlockQ5_K, DType::q5_k>(rows, count, columns, strip);
    case DType::q6_k:
      return pack_as<BlockQ6_K, DType::q6_k>(rows, count, columns, strip);
    case DType::iq4_nl:
      return pack_as<BlockIQ4_NL, DType::iq4_nl>(rows, count, columns, strip);
    case DType::iq4_xs:
      return pack_as<BlockIQ4_XS, DType::iq4_xs>(rows, count, columns, strip);
    case DType::mxfp4:
      return pack_as<BlockMXFP4, DType::mxfp4>(rows, count, columns, strip);
    default:
      RIDGE_ASSERT(!"a quantised dtype");
  }
}

void unpack_row(DType dtype, const std::byte* strip, int row, int64_t columns, std::byte* out) {
  const TileFormat format = tile_format(dtype);
  const std::array<Plane, 2> planes = planes_of(format);
  const DTypeTraits& t = traits(dtype);
  const int blocks_per_unit = format.unit_columns() / t.block_elements;
  const int groups_per_block = t.block_elements / format.group;
  BlockParts parts;
  for (int64_t block = 0; block < columns / t.block_elements; ++block) {
    const std::byte* unit = strip + block / blocks_per_unit * format.unit_bytes();
    const auto in_unit = static_cast<int>(block % blocks_per_unit);
    if (format.super) {
      parts.d = load_u16(unit, row);
      parts.dmin = load_u16(unit, strip_rows + row);
      for (int g = 0; g < groups_per_block; ++g) {
        parts.scales[g] = static_cast<int8_t>(unit[format.scales_at() + g * strip_rows + row]);
        if (format.has_min) {
          parts.mins[g] = static_cast<int8_t>(unit[format.mins_at() + g * strip_rows + row]);
        }
      }
    } else {
      parts.d = load_u16(unit + format.scales_at(), in_unit * strip_rows + row);
      if (format.has_min) {
        parts.dmin = load_u16(unit + format.mins_at(), in_unit * strip_rows + row);
      }
    }
    const int groups32 = t.block_elements / 32;
    const std::byte* codes = unit + format.codes_at() + in_unit * groups32 * format.code_bytes();
    for (int g = 0; g < groups32; ++g) {
      take_codes(planes, codes + g * format.code_bytes(), row, parts.codes.data() + 32 * g);
    }
    join_block(dtype, parts, out + block * t.block_bytes);
  }
}

}  // namespace ridge::backend::cpu
