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
// A chunk is this share of what each member has left, at most.
constexpr int64_t word_shares = 3;

}  // namespace

LinearWordPanel::LinearWordPanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                                 const KernelTable& kernels)
    : plan_(plan),
      strips_(strips),
      kernels_(kernels),
      max_rows_(max_rows),
      columns_(plan.weight->columns()) {
  // Slices of the columns, about equal, of whole units of every part.
  int64_t unit = 0;
  for (const WeightPart& part : plan.weight->parts()) {
    unit = std::max<int64_t>(unit, tile_format(part.dtype).unit_columns());
  }
  const int64_t slices = (columns_ + word_panel_columns - 1) / word_panel_columns;
  slice_ = std::min((columns_ / unit + slices) / slices * unit, word_panel_columns / unit * unit);
  for (int64_t item = 0; item < strips.count();) {
    const Strip* first = &strips.strip(item);
    const Strip* second = nullptr;
    int outputs = 1;
    if (strips.has_up()) {
      second = &strips.up(item);
    } else if (item + 1 < strips.count() &&
               strips.strip(item + 1).part->dtype == first->part->dtype) {
      second = &strips.strip(item + 1);
      outputs = 2;
    }
    pairs_.push_back({item, outputs, first, second});
    item += outputs;
  }
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
  split_rows(rows, run.team.size(), member, [&](int row) {
    tokens.quantize(kernels_.word_panel, row, input_row(plan_, run, row, kernels_, normed));
  });
  run.team.barrier();
  // Pairs in chunks that shrink to one, so that all members end at about the same time; a chunk is
  // of one block of tokens.
  const auto pairs = static_cast<int64_t>(pairs_.size());
  const int blocks = (tokens.tiles() + word_panel_tiles - 1) / word_panel_tiles;
  int64_t item = next.load(std::memory_order_relaxed);
  while (item < blocks * pairs) {
    const int64_t first = item % pairs;
    const int64_t share = (blocks * pairs - item) / (word_shares * run.team.size());
    const int64_t count =
        std::min(std::clamp<int64_t>(share, 1, word_pairs_together), pairs - first);
    if (!next.compare_exchange_weak(item, item + count, std::memory_order_relaxed)) continue;
    const auto block = static_cast<int>(item / pairs);
    multiply(run, tokens,
             {block * tokens.tiles() / blocks, (block + 1) * tokens.tiles() / blocks, first,
              first + count},
             scratch);
    item = next.load(std::memory_order_relaxed);
  }
}

void LinearWordPanel::multiply(const Run& run, const WordTokens& tokens, const Work& work,
                               std::byte* scratch) const {
  auto* const sums = reinterpret_cast<float*>(scratch + word_panel_bytes);
  const int64_t pair_sums = int64_t{work.last_tile - work.first_tile} * word_panel_tile_sums;
  for (int64_t column = 0; column < columns_; column += slice_) {
    for (int64_t p = work.first_pair; p < work.last_pair; ++p) {
      multiply_slice(tokens, work, p, column, scratch, sums + (p - work.first_pair) * pair_sums);
    }
  }
  finish(run, tokens, work, sums);
}

void LinearWordPanel::multiply_slice(const WordTokens& tokens, const Work& work, int64_t pair,
                                     int64_t column, std::byte* panel, float* sums) const {
  const Pair& at = pairs_[pair];
  const auto dtype = static_cast<int>(at.first->part->dtype);
  const TileFormat format = tile_format(at.first->part->dtype);
  const int64_t unit = format.unit_columns();
  const int64_t width = (std::min(slice_, columns_ - column) + unit - 1) / unit * unit;
  // What this member, or another one, unpacks next.
  const Pair* next = &at;
  int64_t next_column = column;
  if (pair + 1 < work.last_pair) {
    next = &pairs_[pair + 1];
  } else if (column + slice_ < columns_) {
    next = &pairs_[work.first_pair];
    next_column = column + slice_;
  } else {
    next = work.last_pair < static_cast<int64_t>(pairs_.size()) ? &pairs_[work.last_pair] : nullptr;
    next_column = 0;
  }
  const auto unpack = [&](const Strip& strip, const Strip* ahead, int which) {
    const std::byte* from = strip.tiles() + column / unit * format.unit_bytes();
    int64_t distance = 0;
    if (ahead != nullptr && ahead->part->dtype == strip.part->dtype) {
      distance = ahead->tiles() + next_column / unit * format.unit_bytes() - from;
    }
    kernels_.word_panel.unpack[dtype](from, width, which, distance, panel);
  };
  unpack(*at.first, next == nullptr ? nullptr : next->first, 0);
  // A strip alone is multiplied twice: its second sums go nowhere.
  unpack(at.second == nullptr ? *at.first : *at.second, next == nullptr ? nullptr : next->second,
         1);
  for (int t = work.first_tile; t < work.last_tile; ++t, sums += word_panel_tile_sums) {
    kernels_.word_panel.multiply[dtype](panel, width, tokens.tile(t).from_column(column),
                                        column > 0, sums);
  }
}

void LinearWordPanel::finish(const Run& run, const WordTokens& tokens, const Work& work,
                             float* sums) const {
  const int64_t pair_sums = int64_t{work.last_tile - work.first_tile} * word_panel_tile_sums;
  // A token's outputs of these pairs lie side by side.
  for (int t = work.first_tile; t < work.last_tile; ++t, sums += word_panel_tile_sums) {
    const int fetched = t + word_tiles_ahead;
    float* tile = sums;
    for (int64_t p = work.first_pair; p < work.last_pair; ++p, tile += pair_sums) {
      const Pair& pair = pairs_[p];
      for (int i = 0; i < pair.outputs && fetched < work.last_tile; ++i) {
        strips_.fetch_outputs(run, pair.item + i, tokens.first(fetched), tokens.count(fetched));
      }
      float* second = tile + tokens.count(t) * strip_rows;
      strips_.finish(run, pair.item, tokens.first(t), tokens.count(t), tile,
                     strips_.has_up() ? second : nullptr);
      if (pair.outputs == 2) {
        strips_.finish(run, pair.item + 1, tokens.first(t), tokens.count(t), second, nullptr);
      }
    }
  }
}

}  // namespace ridge::backend::cpu
