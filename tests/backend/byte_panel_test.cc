#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/byte_tokens.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/kernels.h"
#include "tensor/dequantize.h"
#include "tile_test_data.h"

// byte_panel.h's kernels by themselves; the conformance suite covers them within whole linears.
namespace ridge::backend::cpu::byte_panel_test {
namespace {

constexpr int64_t columns = 768;
constexpr int tokens_count = 13;  // tiles of 5, 4 and 4

std::vector<float> activations(Random& random) {
  std::vector<float> x(tokens_count * columns);
  for (float& value : x) value = random.normal();
  x[3] = 200;                                           // an outlier, as models have them
  std::fill(x.begin() + 300, x.begin() + 340, 0.0f);    // a group of zeros and a part of one
  std::fill_n(x.begin() + 2 * columns, columns, 0.0f);  // a token of zeros
  return x;
}

// What a token's column was rounded to.
double rounded(const ByteTile& tile, int row, int64_t column) {
  const int64_t group = column / 32;
  const int8_t code =
      tile.codes[((group * 8 + column % 32 / 4) * tile.count + row) * 4 + column % 4];
  const int shift = tile.shifts[group * tile.count + row] >> 23;
  return static_cast<double>(tile.steps[column / 256 * tile.count + row]) * (1 << shift) * code;
}

class BytePanels : public testing::Test {
 protected:
  void SetUp() override {
    const auto isas = available_isas();
    if (std::find(isas.begin(), isas.end(), "avx512_vnni") == isas.end()) {
      GTEST_SKIP() << "NOT CHECKED: this machine has no AVX-512 VNNI";
    }
    kernels_ = &select_isa("avx512_vnni").kernels->byte_panel;
    x_ = activations(random_);
    memory_.resize(ByteTokens::bytes(tokens_count, columns));
    for (int t = 0; t < tokens_count; ++t) tokens().quantize(*kernels_, t, &x_[t * columns]);
  }
  ByteTokens tokens() { return {memory_.data(), tokens_count, columns}; }

  Random random_{7};
  const BytePanelKernels* kernels_ = nullptr;
  std::vector<float> x_;
  std::vector<std::byte> memory_;
};

TEST_F(BytePanels, RoundActivationsToTheFinestOfFourScales) {
  for (int t = 0; t < tokens().tiles(); ++t) {
    const ByteTile tile = tokens().tile(t);
    for (int row = 0; row < tile.count; ++row) {
      const float* x = &x_[(tokens().first(t) + row) * columns];
      for (int64_t g = 0; g < columns / 32; ++g) {
        const auto largest = [](const float* from, int count) {
          return std::abs(*std::max_element(
              from, from + count, [](float a, float b) { return std::abs(a) < std::abs(b); }));
        };
        const float scale = std::max(largest(x + 32 * g, 32), largest(x + g / 8 * 256, 256) / 8);
        int sum = 0;
        for (int64_t c = 32 * g; c < 32 * (g + 1); ++c) {
          // Half a code, of a scale that is less than twice what the largest needs.
          EXPECT_LE(std::abs(rounded(tile, row, c) - x[c]), scale / 127 * 1.001) << t << " " << c;
          sum += tile.codes[((g * 8 + c % 32 / 4) * tile.count + row) * 4 + c % 4];
        }
        const int shift = tile.shifts[g * tile.count + row] >> 23;
        EXPECT_EQ(tile.pair_sums[2 * (g / 2 * tile.count + row) + g % 2], sum << shift);
        EXPECT_EQ(tile.code_sums[2 * g * tile.count + row] +
                      tile.code_sums[(2 * g + 1) * tile.count + row],
                  -sum);
      }
    }
  }
}

TEST_F(BytePanels, MultiplyWhatWasRoundedByWhatTheFileSays) {
  for (const DType dtype : tile_dtypes) {
    const auto index = static_cast<int>(dtype);
    const TileFormat format = tile_format(dtype);
    if (dtype == DType::q2_k || !format.super) {
      EXPECT_EQ(kernels_->multiply[index], nullptr);
      continue;
    }
    ASSERT_NE(kernels_->multiply[index], nullptr) << name(dtype);
    const std::vector<std::byte> rows[2] = {random_.rows(dtype, columns),
                                            random_.rows(dtype, columns)};
    std::vector<std::byte> strips[2] = {packed(dtype, rows[0], columns),
                                        packed(dtype, rows[1], columns)};
    std::vector<std::byte> panel(byte_panel_bytes);
    const int tiles = tokens().tiles();
    std::vector<float> sums(tiles * byte_panel_tile_sums, -1.0f);
    for (int64_t column = 0; column < columns; column += byte_panel_columns) {
      const int64_t width = std::min<int64_t>(byte_panel_columns, columns - column);
      for (int s = 0; s < 2; ++s) {
        kernels_->unpack[index](
            strips[s].data() + column / format.unit_columns() * format.unit_bytes(), width, s, 0,
            panel.data());
      }
      ByteTile memory[byte_panel_tiles];
      kernels_->multiply[index](panel.data(), width,
                                tokens().tiles(0, tiles, column, memory).data(), tiles, column > 0,
                                sums.data());
    }
    for (int t = 0; t < tiles; ++t) {
      const ByteTile tile = tokens().tile(t);
      const float* out = &sums[t * byte_panel_tile_sums];
      for (int s = 0; s < 2; ++s) {
        for (int r = 0; r < strip_rows; ++r) {
          std::vector<float> weight(columns);
          const size_t bytes = row_bytes(dtype, columns);
          dequantize_row(dtype, std::span(rows[s]).subspan(r * bytes, bytes), weight);
          for (int i = 0; i < tile.count; ++i) {
            double want = 0, size = 0;
            for (int64_t c = 0; c < columns; ++c) {
              want += rounded(tile, i, c) * weight[c];
              size += std::abs(rounded(tile, i, c) * weight[c]);
            }
            EXPECT_NEAR(out[(s * tile.count + i) * strip_rows + r], want, 4e-6 * size + 1e-30)
                << name(dtype) << " strip " << s << " row " << r << " token "
                << tokens().first(t) + i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ridge::backend::cpu::byte_panel_test
