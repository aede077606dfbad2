#include "backend/cpu/linear_word_panel.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Pairs of strips that meet a slice of the tokens before the next slice takes its place in the
// second-level cache. Their sums stay there too.
constexpr int64_t word_pairs_together = 4;
// Outputs lie in memory, too many for the caches, and are asked for so many tiles before they are
// written.
constexpr int word_tiles_ahead = 3;

}  // namespace

LinearWordPanel::LinearWordPanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                                 const KernelTable& kernels)
    : plan_(plan),
      strips_(strips),
      kernels_(kernels),
      max_rows_(max_rows),
      columns_(plan.weight->columns()),
      pairs_(strips.pairs()) {
  // Slices of the columns, about equal, of whole units of every part.
  int64_t unit = 0;
  for (const WeightPart& part : plan.weight->parts()) {
    unit = std::max<int64_t>(unit, tile_format(part.dtype).unit_columns());
  }
  const int64_t slices = (columns_ + word_panel_columns - 1) / word_panel_columns;
  slice_ = std::min((columns_ / unit + slices) / slices * unit, word_panel_columns / unit * unit);
}

size_t LinearWordPanel::shared_scratch_bytes() const {
  return WordTokens::bytes(max_rows_, columns_);
}

size_t LinearWordPanel::member_scratch_bytes() const {
  return word_panel_bytes +
         word_pairs_together * word_panel_tiles * word_panel_tile_sums * sizeof(float) +
         static_cast<size_t>(columns_) * sizeof(float);
}

void LinearWordPanel::run(Run& run, int member, int rows, std::atomic<int64_t>& next) const {
  RIDGE_ASSERT(rows <= max_rows_);
  const WordTokens tokens(run.shared_scratch, rows, columns_);
  std::byte* scratch = run.member_scratch[member].data();
  auto* normed = reinterpret_cast<float*>(scratch);
  split_rows(rows, run.members, member, [&](int row) {
    tokens.quantize(kernels_.word_panel, row, input_row(plan_, run, row, kernels_, normed));
  });
  run.team.barrier();
  const auto pairs = static_cast<int64_t>(pairs_.size());
  while (const auto work = take_panel_work(next, tokens.tiles(), word_panel_tiles, pairs,
                                           word_pairs_together, run.members)) {
    multiply(run, tokens, *work, scratch);
  }
}

void LinearWordPanel::multiply(const Run& run, const WordTokens& tokens, const PanelWork& work,
                               std::byte* scratch) const {
  auto* const sums = reinterpret_cast<float*>(scratch + word_panel_bytes);
  const int64_t pair_sums = int64_t{work.last_tile - work.first_tile} * word_panel_tile_sums;
  for (int t = work.first_tile; t < work.last_tile && t < work.first_tile + word_tiles_ahead; ++t) {
    fetch_outputs(run, tokens, work, t);
  }
  for (int64_t column = 0; column < columns_; column += slice_) {
    WordTile memory[word_panel_tiles];
    const auto tiles = tokens.tiles(work.first_tile, work.last_tile, column, memory);
    for (int64_t p = work.first_pair; p < work.last_pair; ++p) {
      multiply_slice(tiles, work, p, column, scratch, sums + (p - work.first_pair) * pair_sums);
    }
  }
  finish(run, tokens, work, sums);
}

LinearWordPanel::Slice LinearWordPanel::slice_of(const OutputPair& pair, int64_t column) const {
  const TileFormat format = tile_format(pair.first->part->dtype);
  const int64_t unit = format.unit_columns();
  const int64_t at = column / unit * format.unit_bytes();
  const int64_t units = (std::min(slice_, columns_ - column) + unit - 1) / unit;
  const Strip* second = pair.second == nullptr ? pair.first : pair.second;
  return {pair.first->tiles() + at, second->tiles() + at, units * unit,
          units * format.unit_bytes()};
}

// What this member unpacks after a slice, or whoever takes the pairs that follow.
LinearWordPanel::Slice LinearWordPanel::slice_after(const PanelWork& work, int64_t pair,
                                                    int64_t column) const {
  if (pair + 1 < work.last_pair) return slice_of(pairs_[pair + 1], column);
  if (column + slice_ < columns_) return slice_of(pairs_[work.first_pair], column + slice_);
  if (work.last_pair < static_cast<int64_t>(pairs_.size())) {
    return slice_of(pairs_[work.last_pair], 0);
  }
  return {};
}

void LinearWordPanel::multiply_slice(std::span<const WordTile> tiles, const PanelWork& work,
                                     int64_t pair, int64_t column, std::byte* panel,
                                     float* sums) const {
  const auto dtype = static_cast<int>(pairs_[pair].first->part->dtype);
  const Slice slice = slice_of(pairs_[pair], column);
  const Slice after = slice_after(work, pair, column);
  // A strip alone is multiplied twice: its second sums go nowhere.
  kernels_.word_panel.unpack[dtype](slice.first, slice.columns, 0, panel);
  kernels_.word_panel.unpack[dtype](slice.second, slice.columns, 1, panel);
  const auto count = static_cast<int>(tiles.size());
  const int64_t times = count * slice.columns / word_panel_group;
  const auto lines = static_cast<int>((after.bytes / 64 + times - 1) / times);
  kernels_.word_panel.multiply[dtype](panel, slice.columns, tiles.data(), count, column > 0,
                                      {after.first, after.second, after.bytes, lines}, sums);
}

void LinearWordPanel::fetch_outputs(const Run& run, const WordTokens& tokens, const PanelWork& work,
                                    int tile) const {
  for (int64_t p = work.first_pair; p < work.last_pair; ++p) {
    strips_.fetch_outputs(run, pairs_[p], tokens.first(tile), tokens.count(tile));
  }
}

void LinearWordPanel::finish(const Run& run, const WordTokens& tokens, const PanelWork& work,
                             float* sums) const {
  const int64_t pair_sums = int64_t{work.last_tile - work.first_tile} * word_panel_tile_sums;
  // A token's outputs of these pairs lie side by side.
  for (int t = work.first_tile; t < work.last_tile; ++t, sums += word_panel_tile_sums) {
    if (t + word_tiles_ahead < work.last_tile) {
      fetch_outputs(run, tokens, work, t + word_tiles_ahead);
    }
    float* tile = sums;
    for (int64_t p = work.first_pair; p < work.last_pair; ++p, tile += pair_sums) {
      strips_.finish(run, pairs_[p], tokens.first(t), tokens.count(t), tile);
    }
  }
}

}  // namespace ridge::backend::cpu
