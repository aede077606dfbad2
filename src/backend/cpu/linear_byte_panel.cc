#include "backend/cpu/linear_byte_panel.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Pairs of strips that meet a slice of the tokens before the next slice takes its place in the
// second-level cache. Their sums stay there too.
constexpr int64_t pairs_together = 4;
// Outputs lie in memory, too many for the caches, and are asked for so many tiles before they are
// written.
constexpr int tiles_ahead = 3;

const std::byte* at_column(const Strip& strip, int64_t column) {
  const TileFormat format = tile_format(strip.part->dtype);
  return strip.tiles() + column / byte_panel_unit * format.unit_bytes();
}

}  // namespace

void multiply_byte_panel(const BytePanelKernels& kernels, DType dtype, const StripPair& strips,
                         int64_t columns, const StripPair& ahead, std::span<const ByteTile> tiles,
                         bool accumulate, std::byte* panel, float* sums) {
  const auto index = static_cast<int>(dtype);
  const auto unpack = [&](const std::byte* from, const std::byte* next, int which) {
    kernels.unpack[index](from, columns, which, next == nullptr ? 0 : next - from, panel);
  };
  unpack(strips.first, ahead.first, 0);
  // A strip alone is multiplied twice: its second sums go nowhere.
  unpack(strips.second != nullptr ? strips.second : strips.first, ahead.second, 1);
  kernels.multiply[index](panel, columns, tiles.data(), static_cast<int>(tiles.size()), accumulate,
                          sums);
}

LinearBytePanel::LinearBytePanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                                 const KernelTable& kernels)
    : plan_(plan),
      strips_(strips),
      kernels_(kernels),
      max_rows_(max_rows),
      columns_(plan.weight->columns()),
      pairs_(strips.pairs()) {}

size_t LinearBytePanel::shared_scratch_bytes() const {
  return ByteTokens::bytes(max_rows_, columns_);
}

size_t LinearBytePanel::member_scratch_bytes() const {
  return byte_panel_bytes +
         pairs_together * byte_panel_tiles * byte_panel_tile_sums * sizeof(float) +
         static_cast<size_t>(columns_) * sizeof(float);
}

void LinearBytePanel::run(Run& run, int member, int rows, std::atomic<int64_t>& next) const {
  RIDGE_ASSERT(rows <= max_rows_);
  const ByteTokens tokens(run.shared_scratch, rows, columns_);
  std::byte* scratch = run.member_scratch[member].data();
  auto* normed = reinterpret_cast<float*>(scratch);
  split_rows(rows, run.members, member, [&](int row) {
    tokens.quantize(kernels_.byte_panel, row, input_row(plan_, run, row, kernels_, normed));
  });
  run.team.barrier();
  const auto pairs = static_cast<int64_t>(pairs_.size());
  while (const auto work = take_panel_work(next, tokens.tiles(), byte_panel_tiles, pairs,
                                           pairs_together, run.members)) {
    multiply(run, tokens, *work, scratch);
  }
}

StripPair LinearBytePanel::strips_of(const OutputPair& pair, int64_t column) {
  return {at_column(*pair.first, column),
          pair.second == nullptr ? nullptr : at_column(*pair.second, column)};
}

void LinearBytePanel::multiply(const Run& run, const ByteTokens& tokens, const PanelWork& work,
                               std::byte* scratch) const {
  auto* const sums = reinterpret_cast<float*>(scratch + byte_panel_bytes);
  const int64_t pair_sums = int64_t{work.last_tile - work.first_tile} * byte_panel_tile_sums;
  for (int64_t column = 0; column < columns_; column += byte_panel_columns) {
    const int64_t width = std::min<int64_t>(byte_panel_columns, columns_ - column);
    ByteTile memory[byte_panel_tiles];
    const auto tiles = tokens.tiles(work.first_tile, work.last_tile, column, memory);
    for (int64_t p = work.first_pair; p < work.last_pair; ++p) {
      StripPair ahead{};
      if (p + 1 < work.last_pair) {
        ahead = strips_of(pairs_[p + 1], column);
      } else if (column + width < columns_) {
        ahead = strips_of(pairs_[work.first_pair], column + width);
      } else if (work.last_pair < static_cast<int64_t>(pairs_.size())) {
        ahead = strips_of(pairs_[work.last_pair], 0);
      }
      multiply_byte_panel(kernels_.byte_panel, pairs_[p].first->part->dtype,
                          strips_of(pairs_[p], column), width, ahead, tiles, column > 0, scratch,
                          sums + (p - work.first_pair) * pair_sums);
    }
  }
  // A token's outputs of these pairs lie side by side.
  for (int t = work.first_tile; t < work.last_tile; ++t) {
    float* tile = sums + (t - work.first_tile) * byte_panel_tile_sums;
    for (int64_t p = work.first_pair; p < work.last_pair && t + tiles_ahead < work.last_tile; ++p) {
      strips_.fetch_outputs(run, pairs_[p], tokens.first(t + tiles_ahead),
                            tokens.count(t + tiles_ahead));
    }
    for (int64_t p = work.first_pair; p < work.last_pair; ++p, tile += pair_sums) {
      strips_.finish(run, pairs_[p], tokens.first(t), tokens.count(t), tile);
    }
  }
}

}  // namespace ridge::backend::cpu
