#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/quantized_tokens.h"
#include "backend/cpu/word_tokens.h"
#include "tensor/dequantize.h"
#include "tile_test_data.h"

// word_panel.h's kernels by themselves; the conformance suite covers them within whole linears.
namespace ridge::backend::cpu::word_panel_test {
namespace {

constexpr int64_t columns = 768;
constexpr int tokens_count = 13;  // tiles of 5, 4 and 4

// Tokens whose columns are a number that depends on them, some large, some zero.
std::vector<float> activations(Random& random, int tokens) {
  std::vector<float> x(tokens * columns);
  for (float& value : x) value = random.normal();
  x[3] = 200;                                         // an outlier, as models have them
  std::fill(x.begin() + 300, x.begin() + 340, 0.0f);  // a group of zeros and a part of one
  if (tokens > 2) std::fill_n(x.begin() + 2 * columns, columns, 0.0f);  // a token of zeros
  return x;
}

int16_t code_of(const WordTile& tile, int row, int64_t column) {
  static constexpr int places[] = {0, 2, 1, 3};
  return tile.codes[(column / 4 * tile.count + row) * 4 + places[column % 4]];
}
// What a token's column was rounded to.
double rounded(const WordTile& tile, int row, int64_t column) {
  return static_cast<double>(tile.scales[column / 32 * tile.count + row]) *
         code_of(tile, row, column);
}

template <class T>
T value_at(const std::byte* from, int64_t index) {
  T value;
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  return value;
}

class WordPanels : public testing::Test {
 protected:
  void SetUp() override {
    const auto isas = available_isas();
    if (std::find(isas.begin(), isas.end(), "avx512_vnni") == isas.end()) {
      GTEST_SKIP() << "NOT CHECKED: this machine has no AVX-512 VNNI";
    }
    kernels_ = &select_isa("avx512_vnni").kernels->word_panel;
  }
  bool serves(DType dtype) const { return kernels_->multiply[static_cast<int>(dtype)] != nullptr; }
  // The first `width` columns of x[tokens][columns], quantised.
  WordTokens quantized(const std::vector<float>& x, int tokens, int64_t width) {
    memory_.assign(WordTokens::bytes(tokens, width), std::byte{0xff});
    const WordTokens all(memory_.data(), tokens, width);
    for (int t = 0; t < tokens; ++t) all.quantize(*kernels_, t, &x[t * columns]);
    return all;
  }

  // [tiles][word_panel_tile_sums] of two strips, whose columns are taken slice by slice.
  std::vector<float> multiplied(DType dtype, const std::vector<std::byte> (&strips)[2],
                                const WordTokens& tokens, int64_t width) const {
    const auto index = static_cast<int>(dtype);
    const TileFormat format = tile_format(dtype);
    const int64_t slice = format.super ? 256 : word_panel_columns;
    std::vector<std::byte> panel(word_panel_bytes);
    std::vector<float> sums(tokens.tiles() * word_panel_tile_sums, -1.0f);
    for (int64_t column = 0; column < width; column += slice) {
      const int64_t units = units_of(format, std::min(slice, width - column));
      const int64_t wide = units * format.unit_columns();
      const int64_t from = column / format.unit_columns() * format.unit_bytes();
      for (int s = 0; s < 2; ++s) {
        kernels_->unpack[index](strips[s].data() + from, wide, s, panel.data());
      }
      WordTile memory[word_panel_tiles];
      const auto tiles = tokens.tiles(0, tokens.tiles(), column, memory);
      kernels_->multiply[index](panel.data(), wide, tiles.data(), tokens.tiles(), column > 0, {},
                                sums.data());
    }
    return sums;
  }

  // x: [tokens_count][columns]
  void expect_bits_of_dots(DType dtype, const std::vector<float>& x) {
    const KernelTable& table = *select_isa("avx512_vnni").kernels;
    const TileFormat format = tile_format(dtype);
    const int64_t width = format.super ? columns : columns - 32;
    const std::vector<std::byte> strips[2] = {packed(dtype, random_.rows(dtype, width), width),
                                              packed(dtype, random_.rows(dtype, width), width)};
    std::vector<std::byte> memory(QuantizedTokens::bytes(tokens_count, width, 2));
    const QuantizedTokens few(memory.data(), tokens_count, width, 2, table.tile_rows);
    for (int t = 0; t < tokens_count; ++t) {
      table.quantize_row(&x[t * columns], width, few.rows(t));
    }
    std::vector<float> expected(2 * tokens_count * strip_rows);  // [2][tokens][16]
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < few.tiles(); ++t) {
        const ActivationTile tile = few.tile(t);
        table.dot[1][static_cast<int>(dtype)][tile.tokens](
            strips[s].data(), units_of(format, width), tile, nullptr,
            &expected[(s * tokens_count + few.first(t)) * strip_rows]);
      }
    }
    const WordTokens tokens = quantized(x, tokens_count, width);
    const std::vector<float> sums = multiplied(dtype, strips, tokens, width);
    for (int t = 0; t < tokens.tiles(); ++t) {
      const int count = tokens.count(t);
      for (int s = 0; s < 2; ++s) {
        const float* want = &expected[(s * tokens_count + tokens.first(t)) * strip_rows];
        const float* got = &sums[t * word_panel_tile_sums + s * count * strip_rows];
        EXPECT_EQ(0, std::memcmp(want, got, count * strip_rows * sizeof(float)))
            << name(dtype) << ", tokens from " << tokens.first(t) << " on";
      }
    }
  }

  Random random_{7};
  const WordPanelKernels* kernels_ = nullptr;
  std::vector<std::byte> memory_;
};

TEST_F(WordPanels, RoundActivationsToFifteenBitsOfTheirGroup) {
  const std::vector<float> x = activations(random_, tokens_count);
  const WordTokens tokens = quantized(x, tokens_count, columns);
  for (int t = 0; t < tokens.tiles(); ++t) {
    const WordTile tile = tokens.tile(t);
    for (int row = 0; row < tile.count; ++row) {
      const float* from = &x[(tokens.first(t) + row) * columns];
      for (int64_t g = 0; g < columns / 32; ++g) {
        float largest = 0;
        for (int64_t c = 32 * g; c < 32 * (g + 1); ++c) {
          largest = std::max(largest, std::abs(from[c]));
        }
        int64_t sum = 0;
        uint32_t products = 0, half_products = 0;
        for (int64_t c = 32 * g; c < 32 * (g + 1); ++c) {
          EXPECT_LE(std::abs(rounded(tile, row, c) - from[c]), largest / most_fine_code / 2 * 1.01)
              << t << " " << c;
          const int code = code_of(tile, row, c);
          EXPECT_LE(std::abs(code), most_fine_code);
          sum += code;
          if (c % 2 == 0 && word_quad_is_paired(static_cast<int>(c % 32 / 4))) {
            products += static_cast<uint32_t>(code * code_of(tile, row, c + 1));
            if (c % 32 < 16) half_products = products;
          }
        }
        const int64_t at = g * tile.count + row;
        EXPECT_EQ(static_cast<uint32_t>(tile.products[at]) + products, 0u);
        EXPECT_EQ(static_cast<uint32_t>(tile.half_products[at]) + half_products, 0u);
        EXPECT_FLOAT_EQ(tile.sums[at], tile.scales[at] * static_cast<float>(sum));
      }
    }
  }
}

TEST_F(WordPanels, ServeAllFormatsButThatWithMinimaOf16Columns) {
  for (const DType dtype : tile_dtypes) {
    const TileFormat format = tile_format(dtype);
    EXPECT_EQ(serves(dtype), format.group == 32 || !format.has_min) << name(dtype);
  }
}

// The codes, scales and minima of a panel as the picture of word_panel.h has them.
TEST_F(WordPanels, UnpackWhatTheFileSaysToTheLastBit) {
  for (const DType dtype : tile_dtypes) {
    if (!serves(dtype)) continue;
    const TileFormat format = tile_format(dtype);
    const int64_t width = 256;
    const size_t bytes = row_bytes(dtype, width);
    const std::vector<std::byte> rows[2] = {random_.rows(dtype, width), random_.rows(dtype, width)};
    std::vector<std::byte> panel(word_panel_bytes, std::byte{0xff});
    for (int s = 0; s < 2; ++s) {
      const std::vector<std::byte> strip = packed(dtype, rows[s], width);
      kernels_->unpack[static_cast<int>(dtype)](strip.data(), width, s, panel.data());
    }
    const int64_t halves = 32 / format.group;
    const int64_t scales_at = word_panel_codes + halves * 128;
    const int64_t group_bytes = scales_at + (format.has_min ? 2 : 1) * halves * 128;
    for (int row = 0; row < 2 * strip_rows; ++row) {
      std::vector<float> weight(width);
      dequantize_row(dtype,
                     std::span(rows[row / strip_rows]).subspan(row % strip_rows * bytes, bytes),
                     weight);
      for (int64_t g = 0; g < width / 32; ++g) {
        const std::byte* group = panel.data() + g * group_bytes;
        const auto code = [&](int64_t column) {
          const int64_t quad = column / 4, parity = column % 2, place = column % 4 / 2;
          const int64_t vector = (quad * 2 + row / strip_rows) * 2 + parity;
          return value_at<int16_t>(group + vector * 64, row % strip_rows * 2 + place);
        };
        int32_t products[2] = {};
        for (int64_t c = 0; c < 32; ++c) {
          const int64_t half = c / format.group;
          const int64_t place = half * 2 * strip_rows + row;
          const auto scale = value_at<float>(group + scales_at, place);
          const auto min =
              format.has_min ? value_at<float>(group + scales_at + halves * 128, place) : 0.0f;
          const double value = static_cast<double>(scale) * code(c) + min;
          EXPECT_EQ(static_cast<float>(value), weight[32 * g + c])
              << name(dtype) << " row " << row << " column " << 32 * g + c;
          if (c % 2 == 0 && word_quad_is_paired(static_cast<int>(c / 4))) {
            products[half] += code(c) * code(c + 1);
          }
        }
        for (int64_t half = 0; half < halves; ++half) {
          const int64_t place = half * 2 * strip_rows + row;
          EXPECT_EQ(value_at<int32_t>(group + word_panel_codes, place), -products[half])
              << name(dtype);
        }
      }
    }
  }
}

// Kernels for few tokens and for many: no row's result may depend on which it met.
TEST_F(WordPanels, GiveTheBitsOfTheDotKernels) {
  for (const DType dtype : tile_dtypes) {
    if (serves(dtype)) expect_bits_of_dots(dtype, activations(random_, tokens_count));
  }
}

// Sums of paired products wrap where all codes are the largest, with both signs.
TEST_F(WordPanels, GiveTheBitsOfTheDotKernelsWherePartsOverflow) {
  for (const int period : {1, 2, 4, 16}) {
    std::vector<float> x(tokens_count * columns);
    for (size_t i = 0; i < x.size(); ++i) x[i] = i / period % 2 == 0 ? 1.0f : -1.0f;
    for (const DType dtype : tile_dtypes) {
      if (serves(dtype)) expect_bits_of_dots(dtype, x);
    }
  }
}

TEST_F(WordPanels, MultiplyWhatWasRoundedByWhatTheFileSays) {
  // Tiles of 1 to 6 rows; columns that are no whole units, nor whole panels.
  for (const int tokens_in_all : {1, 2, 3, tokens_count, 12}) {
    const std::vector<float> x = activations(random_, tokens_in_all);
    for (const DType dtype : tile_dtypes) {
      if (!serves(dtype)) continue;
      const int64_t width = tile_format(dtype).super ? columns : columns - 32;
      const WordTokens tokens = quantized(x, tokens_in_all, width);
      const std::vector<std::byte> rows[2] = {random_.rows(dtype, width),
                                              random_.rows(dtype, width)};
      const std::vector<std::byte> strips[2] = {packed(dtype, rows[0], width),
                                                packed(dtype, rows[1], width)};
      const std::vector<float> sums = multiplied(dtype, strips, tokens, width);
      for (int t = 0; t < tokens.tiles(); ++t) {
        const WordTile tile = tokens.tile(t);
        const float* out = &sums[t * word_panel_tile_sums];
        for (int row = 0; row < 2 * strip_rows; ++row) {
          std::vector<float> weight(width);
          const size_t bytes = row_bytes(dtype, width);
          dequantize_row(dtype,
                         std::span(rows[row / strip_rows]).subspan(row % strip_rows * bytes, bytes),
                         weight);
          for (int i = 0; i < tile.count; ++i) {
            double want = 0, size = 0;
            for (int64_t c = 0; c < width; ++c) {
              want += rounded(tile, i, c) * weight[c];
              size += std::abs(rounded(tile, i, c) * weight[c]);
            }
            const int at = (row / strip_rows * tile.count + i) * strip_rows + row % strip_rows;
            EXPECT_NEAR(out[at], want, 4e-6 * size + 1e-30)
                << name(dtype) << " row " << row << " token " << tokens.first(t) + i;
          }
        }
      }
    }
  }
}

// Sums of paired products wrap: the largest codes, with both signs, on either side.
TEST_F(WordPanels, StayExactWherePartsOverflow) {
  const DType dtype = DType::q8_0;
  const auto index = static_cast<int>(dtype);
  constexpr int64_t width = 64;
  for (const int pattern : {0, 1, 2, 3}) {
    std::vector<std::byte> rows(row_bytes(dtype, width) * strip_rows);
    std::vector<float> x(columns, 0.0f);
    for (int64_t c = 0; c < width; ++c) {
      const bool positive = pattern < 2 || c % 2 == 0;
      x[c] = positive ? 1.0f : -1.0f;
      for (int r = 0; r < strip_rows; ++r) {
        std::byte* block = &rows[r * row_bytes(dtype, width) + c / 32 * traits(dtype).block_bytes];
        block[0] = std::byte{0};
        block[1] = std::byte{0x3c};  // 1 as float16
        block[2 + c % 32] = static_cast<std::byte>(pattern % 2 == 0 || c % 4 < 2 ? -128 : 127);
      }
    }
    const std::vector<std::byte> strip = packed(dtype, rows, width);
    std::vector<std::byte> panel(word_panel_bytes);
    for (int s = 0; s < 2; ++s) {
      kernels_->unpack[index](strip.data(), width, s, panel.data());
    }
    const WordTokens tokens = quantized(x, 1, width);
    std::vector<float> out(word_panel_tile_sums);
    const WordTile tile = tokens.tile(0);
    kernels_->multiply[index](panel.data(), width, &tile, 1, false, {}, out.data());
    double want = 0;
    for (int64_t c = 0; c < width; ++c) {
      want += rounded(tokens.tile(0), 0, c) * (pattern % 2 == 0 || c % 4 < 2 ? -128 : 127);
    }
    for (int row = 0; row < 2 * strip_rows; ++row) {
      EXPECT_NEAR(out[row], want, 1e-6 * 128 * width) << pattern;
    }
  }
}

}  // namespace
}  // namespace ridge::backend::cpu::word_panel_test
