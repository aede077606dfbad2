#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/linear_path.h"
#include "backend/cpu/open.h"
#include "backend/cpu/packed_tokens.h"
#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"
#include "tile_test_data.h"

// The kernels of AMX tiles and panels one at a time, at every instruction set that has them; the
// conformance suite covers them within whole linears.
namespace ridge::backend::cpu::tile_kernels_test {
namespace {

// Activations in the layout of one kind of kernel, as one tile.
class Quantized {
 public:
  Quantized(int tokens, int planes, int64_t columns)
      : tokens_(tokens),
        planes_(planes),
        codes_(static_cast<size_t>(columns) * tokens * planes),
        scales_(columns / 32 * tokens),
        code_sums_(columns / 16 * tokens),
        group_sums_(columns / 32 * tokens),
        half_sums_(columns / 16 * tokens) {}
  ActivationRows rows(int token) {
    return {codes_.data(),
            scales_.data(),
            code_sums_.data(),
            group_sums_.data(),
            half_sums_.data(),
            tokens_,
            token,
            planes_};
  }
  ActivationTile tile() const {
    return {codes_.data(), scales_.data(), code_sums_.data(), group_sums_.data(), half_sums_.data(),
            tokens_,       planes_};
  }

 private:
  int tokens_;
  int planes_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> code_sums_;
  std::vector<float> group_sums_, half_sums_;
};

std::vector<float> random_tokens(Random& random, int tokens, int64_t columns) {
  std::vector<float> x(static_cast<size_t>(tokens) * columns);
  for (float& v : x) v = random.normal();
  return x;
}

// out[tokens][16], a token at a time.
std::vector<float> dots_of(const KernelTable& kernels, DType dtype,
                           const std::vector<std::byte>& strip, int64_t columns, int planes,
                           const std::vector<float>& x) {
  const auto tokens = static_cast<int>(x.size() / columns);
  std::vector<float> out(static_cast<size_t>(tokens) * strip_rows);
  for (int t = 0; t < tokens; ++t) {
    Quantized codes(1, planes, columns);
    kernels.quantize_row(&x[t * columns], columns, codes.rows(0));
    kernels.dot[planes - 1][static_cast<int>(dtype)][1](
        strip.data(), units_of(tile_format(dtype), columns), codes.tile(), nullptr,
        &out[t * strip_rows]);
  }
  return out;
}

std::vector<float> tile_dots_of(const KernelTable& kernels, DType dtype,
                                const std::vector<std::byte>& strip, int64_t columns, int planes,
                                const std::vector<float>& x) {
  const auto tokens = static_cast<int>(x.size() / columns);
  std::vector<float> out(static_cast<size_t>(tokens) * strip_rows);
  Quantized codes(tokens, planes, columns);
  for (int t = 0; t < tokens; ++t) {
    kernels.tiles.quantize_row(&x[t * columns], columns, codes.rows(t));
  }
  kernels.tiles.begin(tokens * planes);
  kernels.tiles.dot[static_cast<int>(dtype)](strip.data(), units_of(tile_format(dtype), columns),
                                             codes.tile(), strip.data(), out.data());
  kernels.tiles.end();
  return out;
}

}  // namespace

TEST(Isa, OffersEmulationToTestsAlone) {
  const auto listed = available_isas();
  for (const std::string& emulated : emulated_isas()) {
    EXPECT_EQ(std::count(listed.begin(), listed.end(), emulated), 0);
    EXPECT_THROW(select_isa(emulated), Error);
    EXPECT_EQ(select_isa(emulated, true).name, emulated);
  }
  EXPECT_EQ(select_isa("", true).name, listed.back());
}

TEST(TileDot, EqualsTheDotKernelsBitForBit) {
  constexpr int64_t columns = 512;
  for (const auto& [tiled, plain] : pairs()) {
    for (DType dtype : tile_dtypes) {
      Random random(static_cast<uint32_t>(dtype) + 1);
      const auto strip = packed(dtype, random.rows(dtype, columns), columns);
      for (int planes : {1, 2}) {
        for (int tokens : {1, 5, 7, 8, 9, 12, 16, 17, 24, 25, 31, 32}) {
          if (tokens * planes > max_dot_rows) continue;
          const auto x = random_tokens(random, tokens, columns);
          const auto expected = dots_of(*plain.kernels, dtype, strip, columns, planes, x);
          const auto got = tile_dots_of(*tiled.kernels, dtype, strip, columns, planes, x);
          EXPECT_EQ(0, std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)))
              << tiled.name << ", " << name(dtype) << ", " << tokens << " tokens, " << planes
              << " planes";
        }
      }
    }
  }
}

// Both planes of the largest codes are ±127, and weights of Q8_0 reach from -128 to 127.
TEST(Dot, HoldsTheLargestCodesOnEveryIsa) {
  constexpr int64_t columns = 256;
  constexpr DType dtype = DType::q8_0;
  const size_t bytes = row_bytes(dtype, columns);
  for (const std::string& isa : available_isas()) {
    const KernelTable& kernels = *select_isa(isa).kernels;
    for (const int pattern : {0, 1, 2, 3}) {
      const auto weight = [&](int64_t c) { return pattern % 2 == 0 || c % 4 < 2 ? -128 : 127; };
      std::vector<std::byte> rows(bytes * strip_rows);
      std::vector<float> x(columns);
      int64_t want = 0;
      for (int64_t c = 0; c < columns; ++c) {
        x[c] = pattern < 2 || c % 2 == 0 ? 1.0f : -1.0f;
        want += static_cast<int64_t>(x[c]) * most_fine_code * weight(c);
        for (int r = 0; r < strip_rows; ++r) {
          std::byte* block = &rows[r * bytes + c / 32 * traits(dtype).block_bytes];
          block[1] = std::byte{0x3c};  // with the byte before it 1 as float16
          block[2 + c % 32] = static_cast<std::byte>(weight(c));
        }
      }
      const auto out = dots_of(kernels, dtype, packed(dtype, rows, columns), columns, 2, x);
      const double scale = 1.0 / most_fine_code;
      for (const float sum : out) {
        EXPECT_NEAR(sum, scale * static_cast<double>(want), 1e-6 * 128 * columns)
            << isa << ", pattern " << pattern;
      }
    }
  }
}

// Where a column of a group lies: the middle two of four have changed places.
int64_t panel_place(int64_t k) { return k % 4 == 1 ? k + 1 : k % 4 == 2 ? k - 1 : k; }

// Column k of row r in a panel of so many parts, from its first column on.
float part_at(const std::vector<bf16_bits>& panel, int parts, int part, int64_t k, int r) {
  const int64_t group = (k / panel_group * parts + part) * panel_group * strip_rows;
  const int64_t place = panel_place(k % panel_group);
  return bf16_to_f32(panel[group + (place / 2 * strip_rows + r) * 2 + place % 2]);
}

// Each weight rounded once, to the nearest: at most half a step of 8 bits off what the file says,
// and with its rest half a step of that.
TEST(PanelExpansion, RoundsEveryWeightToTheNearestBfloat16) {
  constexpr int64_t columns = 1024;
  for (const auto& [tiled, plain] : pairs()) {
    for (DType dtype : tile_dtypes) {
      Random random(static_cast<uint32_t>(dtype) + 20);
      const auto rows = random.rows(dtype, columns);
      const auto strip = packed(dtype, rows, columns);
      for (const auto& [first, count, parts] : {std::tuple<int64_t, int64_t, int>{0, 1024, 1},
                                                {512, 96, 1},
                                                {0, 1024, 2},
                                                {256, 96, 2}}) {
        std::vector<bf16_bits> panel(static_cast<size_t>(panel_elements(count, parts)));
        tiled.kernels->panel.expand[parts - 1][static_cast<int>(dtype)](
            strip.data(), columns, first, count, 0, panel.data());
        std::vector<float> exact(columns);
        const size_t bytes = row_bytes(dtype, columns);
        for (int r = 0; r < strip_rows; ++r) {
          dequantize_row(dtype, std::span(rows).subspan(r * bytes, bytes), exact);
          // The sum of the code's part, which lies 128 too high, and the minimum rounds before, in
          // float32: a weight may be the small difference of large numbers.
          float largest = 0;
          for (const float w : exact) largest = std::max(largest, std::fabs(w));
          const float before = parts == 1 ? largest * 0x1p-17f + 1e-6f : 1e-6f;
          for (int64_t k = 0; k < count; ++k) {
            const float want = exact[first + k];
            const float rounded = part_at(panel, parts, 0, k, r);
            EXPECT_NEAR(rounded, want, std::fabs(want) * 0x1.01p-8f + before)
                << tiled.name << ", " << name(dtype) << ", row " << r << ", column " << first + k;
            if (parts == 1) continue;
            EXPECT_NEAR(rounded + part_at(panel, parts, 1, k, r), want,
                        std::fabs(want) * 0x1.02p-17f + 1e-6f)
                << tiled.name << ", " << name(dtype) << ", row " << r << ", column " << first + k;
          }
        }
      }
    }
  }
}

TEST(PanelExpansion, KeepsPlainBfloat16AndFillsUpWithZeros) {
  constexpr int64_t columns = 70;
  Random random(40);
  std::vector<uint16_t> strip(columns * strip_rows);
  for (uint16_t& w : strip) w = f32_to_bf16(random.normal());
  for (const auto& [tiled, plain] : pairs()) {
    for (int parts : {1, 2}) {
      std::vector<bf16_bits> panel(static_cast<size_t>(panel_elements(96, parts)), 0xffff);
      tiled.kernels->panel.expand[parts - 1][static_cast<int>(DType::bf16)](
          reinterpret_cast<const std::byte*>(strip.data()), columns, 0, 96, 0, panel.data());
      for (int64_t k = 0; k < 96; ++k) {
        for (int r = 0; r < strip_rows; ++r) {
          const float expected = k < columns ? bf16_to_f32(strip[k * strip_rows + r]) : 0;
          EXPECT_EQ(part_at(panel, parts, 0, k, r), expected) << k << " " << r;
          if (parts == 2) {
            EXPECT_EQ(part_at(panel, parts, 1, k, r), 0) << k << " " << r;
          }
        }
      }
    }
  }
}

TEST(PackedTokens, LayATokenAndItsRestsAmongOthers) {
  constexpr int64_t columns = 550;
  constexpr int rows = 33;
  Random random(41);
  const std::vector<float> x = random_tokens(random, 1, columns);
  for (const auto& [tiled, plain] : pairs()) {
    for (int parts : {1, 2}) {
      const int64_t padded = panel_padded(columns);
      std::vector<bf16_bits> memory(PackedTokens::elements(rows, padded, parts), 0xffff);
      const PackedTokens tokens{memory.data(), rows, padded, parts};
      ASSERT_EQ(tokens.block_tokens, 11);
      tokens.pack(tiled.kernels->panel, 13, x.data(), columns);
      int64_t written = 0;
      for (int64_t k = 0; k < padded; ++k) {
        const int64_t slice = k / panel_columns(parts) * panel_columns(parts);
        const bf16_bits* at = tokens.at(1, slice) +
                              ((k - slice) / panel_group * parts * 11 + 2) * panel_group +
                              panel_place(k % panel_group);
        const float want = k < columns ? x[k] : 0;
        EXPECT_EQ(*at, f32_to_bf16(want)) << tiled.name << " " << k;
        ++written;
        if (parts == 1) continue;
        EXPECT_EQ(at[11 * panel_group], f32_to_bf16(want - bf16_to_f32(f32_to_bf16(want))))
            << tiled.name << " " << k;
        ++written;
      }
      EXPECT_EQ(std::count(memory.begin(), memory.end(), 0xffff),
                static_cast<int64_t>(memory.size()) - written);
    }
  }
}

TEST(LinearPath, DependsOnRowsPrecisionAndKernels) {
  const KernelTable& plain = scalar_kernels();
  const KernelTable& tiled = amx_emulated_kernels();
  const auto& [rounded, exact] = tiled.panel.min_tokens;
  for (int rows : {1, 4, 5, rounded - 1, rounded, exact - 1, exact, 512}) {
    EXPECT_EQ(choose_linear_path(rows, Precision::int8, true, {}, plain), LinearPath::dot);
    const LinearPath many = rows < exact ? LinearPath::tile_dot : LinearPath::panel;
    EXPECT_EQ(choose_linear_path(rows, Precision::full, true, {}, tiled),
              rows < 5 ? LinearPath::dot : many);
    EXPECT_EQ(choose_linear_path(rows, Precision::full, false, {}, tiled), LinearPath::dot);
    EXPECT_EQ(choose_linear_path(rows, Precision::int8, false, {}, tiled),
              rows < rounded ? LinearPath::dot : LinearPath::panel);
  }
  EXPECT_EQ(choose_linear_path(4, Precision::int8, true, {}, tiled), LinearPath::dot);
  EXPECT_EQ(choose_linear_path(5, Precision::int8, true, {}, tiled), LinearPath::tile_dot);
  EXPECT_EQ(choose_linear_path(rounded - 1, Precision::int8, true, {}, tiled),
            LinearPath::tile_dot);
  EXPECT_EQ(choose_linear_path(rounded, Precision::int8, true, {}, tiled), LinearPath::panel);

#if defined(__x86_64__)
  const KernelTable& unpacking = avx512_vnni_kernels();
  const int least = unpacking.byte_panel.min_rows;
  const int least_words = unpacking.word_panel.min_rows;
  constexpr PanelFits bytes{.bytes = true}, words{.words = true};
  EXPECT_EQ(choose_linear_path(least - 1, Precision::int8, true, bytes, unpacking),
            LinearPath::dot);
  EXPECT_EQ(choose_linear_path(least, Precision::int8, true, bytes, unpacking),
            LinearPath::byte_panel);
  EXPECT_EQ(choose_linear_path(512, Precision::bf16, true, bytes, unpacking), LinearPath::dot);
  EXPECT_EQ(choose_linear_path(512, Precision::full, true, bytes, unpacking), LinearPath::dot);
  EXPECT_EQ(choose_linear_path(least_words - 1, Precision::full, true, words, unpacking),
            LinearPath::dot);
  EXPECT_EQ(choose_linear_path(least_words, Precision::full, true, words, unpacking),
            LinearPath::word_panel);
  EXPECT_EQ(choose_linear_path(least_words, Precision::bf16, true, words, unpacking),
            LinearPath::word_panel);
  EXPECT_EQ(choose_linear_path(512, Precision::int8, true, words, unpacking), LinearPath::dot);
#endif
}

// The real instructions against their emulation, which everything else is tested with.
TEST(HardwareTiles, GiveWhatTheEmulationGives) {
  const auto isas = available_isas();
  if (std::find(isas.begin(), isas.end(), "amx") == isas.end()) {
    GTEST_SKIP() << "NOT CHECKED: this machine has no AMX, so its instructions have not been run";
  }
  const KernelTable& real = *select_isa("amx").kernels;
  const KernelTable& emulated = *select_isa("amx_emulated_avx512", true).kernels;
  constexpr int64_t columns = 512;
  Random random(60);
  for (const auto& [block_tokens, parts] :
       {std::pair{1, 1}, {11, 1}, {16, 1}, {1, 2}, {11, 2}, {16, 2}}) {
    const int blocks = 3;
    std::vector<bf16_bits> panels(2 * panel_elements(columns, parts));
    std::vector<bf16_bits> tokens(static_cast<size_t>(blocks) * block_tokens * columns * parts);
    for (auto& x : panels) x = f32_to_bf16(random.normal());
    for (auto& x : tokens) x = f32_to_bf16(random.normal());
    for (int strips : {1, 2}) {
      std::vector<float> got(static_cast<size_t>(blocks) * strips * block_tokens * strip_rows);
      std::vector<float> expected(got.size());
      for (bool accumulate : {false, true}) {
        const auto run = [&](const KernelTable& kernels, std::vector<float>& sums) {
          kernels.panel.begin_products(block_tokens);
          kernels.panel.product({panels.data(), panel_elements(columns, parts), strips, columns,
                                 tokens.data(), block_tokens * columns * parts, blocks,
                                 block_tokens, parts, accumulate, sums.data(), nullptr, 0});
          kernels.panel.end_products();
        };
        run(real, got);
        run(emulated, expected);
        // No kernel relies on the last bits of a sum of 512 products.
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], parts * 1e-4) << i;
      }
    }
  }
}

}  // namespace ridge::backend::cpu::tile_kernels_test
