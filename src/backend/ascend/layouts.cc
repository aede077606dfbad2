#include "backend/ascend/layouts.h"

#include <cmath>
#include <cstring>

namespace ridge::backend::ascend {

std::vector<uint16_t> pack_nz(std::span<const uint16_t> weight, uint32_t n, uint32_t k) {
  constexpr uint32_t fractal = 16;
  const uint32_t padded = (n + fractal - 1) / fractal * fractal;
  const uint32_t columns = (k + fractal - 1) / fractal;
  std::vector<uint16_t> packed(size_t{columns} * padded * fractal);
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t i = 0; i < k; ++i) {
      packed[(size_t{i / fractal} * padded + row) * fractal + i % fractal] =
          weight[size_t{row} * k + i];
    }
  }
  return packed;
}

namespace {

constexpr uint32_t group = 32;

// `code_of` gives code i of a block's bytes behind its scale.
template <typename CodeOf>
QuantizedNz pack_groups(std::span<const std::byte> blocks, uint32_t n, uint32_t k,
                        uint32_t code_bits, CodeOf code_of) {
  constexpr uint32_t fractal = 16;
  const uint32_t padded = (n + fractal - 1) / fractal * fractal;
  const uint32_t block_bytes = 2 + group * code_bits / 8;
  QuantizedNz packed;
  packed.codes.resize(size_t{k} * padded * code_bits / 8);
  packed.scales.resize(size_t{k / group} * padded);
  for (uint32_t row = 0; row < n; ++row) {
    for (uint32_t g = 0; g < k / group; ++g) {
      const std::byte* block = blocks.data() + (size_t{row} * (k / group) + g) * block_bytes;
      std::memcpy(&packed.scales[size_t{g} * padded + row], block, 2);
      for (uint32_t i = 0; i < group; ++i) {
        const uint32_t column = g * group + i;
        const size_t at = (size_t{column / fractal} * padded + row) * fractal + column % fractal;
        const uint32_t code = code_of(block + 2, i);
        if (code_bits == 8) {
          packed.codes[at] = static_cast<uint8_t>(code);
        } else {
          packed.codes[at / 2] |= static_cast<uint8_t>((code & 0xf) << (at % 2 * 4));
        }
      }
    }
  }
  return packed;
}

}  // namespace

QuantizedNz pack_q8_0(std::span<const std::byte> blocks, uint32_t n, uint32_t k) {
  return pack_groups(blocks, n, k, 8, [](const std::byte* codes, uint32_t i) {
    return std::to_integer<uint32_t>(codes[i]);
  });
}

QuantizedNz pack_q4_0(std::span<const std::byte> blocks, uint32_t n, uint32_t k) {
  // The first half of a group is in the lower nibbles; 8 stands for 0.
  return pack_groups(blocks, n, k, 4, [](const std::byte* codes, uint32_t i) {
    const auto byte = std::to_integer<uint32_t>(codes[i % (group / 2)]);
    return (i < group / 2 ? byte & 0xf : byte >> 4) - 8;
  });
}

RopeLayout lay_out_rope(const RopeTable& table, uint32_t positions) {
  const auto pairs = static_cast<uint32_t>(table.inverse_frequencies.size());
  const bool neox = table.pairs == RopePairs::neox;
  const auto first_of = [&](uint32_t pair) { return neox ? pair : 2 * pair; };
  const auto second_of = [&](uint32_t pair) { return neox ? pair + pairs : 2 * pair + 1; };
  RopeLayout layout;
  layout.partners.resize(2 * pairs);
  for (uint32_t pair = 0; pair < pairs; ++pair) {
    layout.partners[first_of(pair)] = second_of(pair) * sizeof(float);
    layout.partners[second_of(pair)] = first_of(pair) * sizeof(float);
  }
  layout.rotations.resize(size_t{positions} * 4 * pairs);
  for (uint32_t position = 0; position < positions; ++position) {
    float* cosines = layout.rotations.data() + size_t{position} * 4 * pairs;
    float* sines = cosines + 2 * pairs;
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      // The angle rounds to float32, as where the models were trained.
      const float angle = static_cast<float>(position) * table.inverse_frequencies[pair];
      const auto cosine = static_cast<float>(std::cos(double{angle}) * table.magnitude);
      const auto sine = static_cast<float>(std::sin(double{angle}) * table.magnitude);
      cosines[first_of(pair)] = cosines[second_of(pair)] = cosine;
      sines[first_of(pair)] = -sine;
      sines[second_of(pair)] = sine;
    }
  }
  return layout;
}

}  // namespace ridge::backend::ascend
