#include "backend/cpu/steps_linear_panel.h"

#include <algorithm>

#include "backend/cpu/linear_path.h"
#include "backend/cpu/packed_tokens.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// So many packed tokens stay in the second-level cache, while pairs of strips pass as a whole.
constexpr int64_t resident_bytes = int64_t{512} << 10;
// Of more tokens: pairs of strips that meet a slice of the packed tokens before the next slice,
// which is fetched meanwhile, takes its place in the second-level cache. Their sums stay there too:
// 64 KiB a pair.
constexpr int64_t pairs_together = 12;
// Shares of the work for each member, at least.
constexpr int64_t shares = 3;

// Tokens packed in one part where the value's floats would be.
PackedTokens packed_in_place(const Run& run, Value value, int rows) {
  return {reinterpret_cast<bf16_bits*>(run.arena.at(value)), rows, panel_padded(value.columns), 1};
}

// Where columns from `first` on of a strip lie.
const std::byte* columns_of(const Strip& strip, int64_t first) {
  const DType dtype = strip.part->dtype;
  const TileFormat format = tile_format(dtype);
  if (is_quantized(dtype)) {
    return strip.tiles() + first / format.unit_columns() * format.unit_bytes();
  }
  return strip.tiles() + first * strip_rows * static_cast<int64_t>(traits(dtype).block_bytes);
}

}  // namespace

// Blocks of tokens and pairs of strips that one member takes at once.
struct LinearPanel::Work {
  int first_block, blocks;
  int64_t first_pair, pairs;
};

LinearPanel::LinearPanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                         const KernelTable& kernels)
    : plan_(plan),
      strips_(strips),
      kernels_(kernels),
      parts_(panel_parts(plan.precision)),
      columns_(panel_padded(plan.weight->columns())),
      max_rows_(max_rows) {}

// With an activation a pair is a gate strip and its up strip, so that one member has both.
int64_t LinearPanel::pairs() const {
  return strips_.has_up() ? strips_.count() : (strips_.count() + 1) / 2;
}
int LinearPanel::strips_of(int64_t pair) const {
  return strips_.has_up() ? 2 : static_cast<int>(std::min<int64_t>(2, strips_.count() - 2 * pair));
}
const Strip& LinearPanel::strip_of(int64_t pair, int which) const {
  if (!strips_.has_up()) return strips_.strip(2 * pair + which);
  return which == 0 ? strips_.strip(pair) : strips_.up(pair);
}

size_t LinearPanel::shared_scratch_bytes() const {
  return PackedTokens::elements(max_rows_, columns_, parts_) * sizeof(bf16_bits);
}

size_t LinearPanel::member_scratch_bytes() const {
  const int blocks = std::min(panel_chunk_blocks, max_rows_ / panel_token_block + 1);
  return 2 * panel_elements(panel_columns(parts_), parts_) * sizeof(bf16_bits) +
         pairs_together * blocks * panel_sum_floats(panel_token_block) * sizeof(float) +
         static_cast<size_t>(columns_) * sizeof(float);
}

void LinearPanel::run(Run& run, int member, int rows, std::atomic<int64_t>& next) const {
  RIDGE_ASSERT(rows <= max_rows_);
  const bool comes_packed = plan_.x_packed && all_take_panels(rows, kernels_);
  const PackedTokens tokens =
      comes_packed ? packed_in_place(run, plan_.x, rows)
                   : PackedTokens{reinterpret_cast<bf16_bits*>(run.shared_scratch), rows, columns_,
                                  parts_};
  std::byte* scratch = run.member_scratch[member].data();
  const int members = run.members;
  if (!comes_packed) {
    split_rows(rows, members, member,
               [&](int row) { pack(run, row, tokens, reinterpret_cast<float*>(scratch)); });
    run.team.barrier();
  }
  const int64_t together = std::clamp<int64_t>(pairs() / (shares * members), 1, pairs_together);
  const int64_t groups = (pairs() + together - 1) / together;
  const int64_t chunks = (tokens.blocks + panel_chunk_blocks - 1) / panel_chunk_blocks;
  if (kernels_.panel.begin_products != nullptr) kernels_.panel.begin_products(tokens.block_tokens);
  for (int64_t item = next.fetch_add(1); item < chunks * groups; item = next.fetch_add(1)) {
    const auto first_block = static_cast<int>(item / groups) * panel_chunk_blocks;
    const int64_t first_pair = item % groups * together;
    const Work work{first_block, std::min(panel_chunk_blocks, tokens.blocks - first_block),
                    first_pair, std::min(together, pairs() - first_pair)};
    multiply(run, work, tokens, scratch);
  }
  if (kernels_.panel.end_products != nullptr) kernels_.panel.end_products();
}

void LinearPanel::pack(const Run& run, int row, const PackedTokens& tokens, float* normed) const {
  const float* x = input_row(plan_, run, row, kernels_, normed);
  tokens.pack(kernels_.panel, row, x, plan_.weight->columns());
}

void LinearPanel::multiply(const Run& run, const Work& work, const PackedTokens& tokens,
                           std::byte* scratch) const {
  const int64_t slice = panel_columns(parts_);
  const int64_t last_pair = work.first_pair + work.pairs;
  const int64_t packed_bytes =
      tokens.blocks * tokens.block_stride * 2 * ((columns_ - 1) / slice + 1);
  if (packed_bytes <= resident_bytes) {
    for (int64_t pair = work.first_pair; pair < last_pair; ++pair) {
      for (int64_t first = 0; first < columns_; first += slice) {
        const bool ends = first + slice >= columns_;
        multiply_slice(work, tokens, {pair, first}, {pair + ends, ends ? 0 : first + slice},
                       scratch);
      }
    }
  } else {
    for (int64_t first = 0; first < columns_; first += slice) {
      for (int64_t pair = work.first_pair; pair < last_pair; ++pair) {
        const bool ends = pair + 1 == last_pair;
        multiply_slice(work, tokens, {pair, first},
                       {ends ? work.first_pair : pair + 1, ends ? first + slice : first}, scratch);
      }
    }
  }
  for (int64_t pair = work.first_pair; pair < last_pair; ++pair) {
    finish(run, pair, work, tokens, sums_of(work, tokens, pair, scratch));
  }
}

float* LinearPanel::sums_of(const Work& work, const PackedTokens& tokens, int64_t pair,
                            std::byte* scratch) const {
  auto* panels = reinterpret_cast<bf16_bits*>(scratch);
  auto* sums = reinterpret_cast<float*>(panels + 2 * panel_elements(panel_columns(parts_), parts_));
  return sums + (pair - work.first_pair) * work.blocks * panel_sum_floats(tokens.block_tokens);
}

void LinearPanel::multiply_slice(const Work& work, const PackedTokens& tokens, Place at, Place next,
                                 std::byte* scratch) const {
  auto* panels = reinterpret_cast<bf16_bits*>(scratch);
  const int64_t columns = std::min<int64_t>(panel_columns(parts_), columns_ - at.first);
  const int strips = strips_of(at.pair);
  const bool more = next.pair < work.first_pair + work.pairs && next.first < columns_;
  for (int s = 0; s < strips; ++s) {
    const Strip& strip = strip_of(at.pair, s);
    const std::byte* from = columns_of(strip, at.first);
    const bool fetches = more && s < strips_of(next.pair);
    kernels_.panel.expand[parts_ - 1][static_cast<int>(strip.part->dtype)](
        strip.tiles(), strip.part->units, at.first, columns,
        fetches ? columns_of(strip_of(next.pair, s), next.first) - from : 0,
        panels + s * panel_elements(columns, parts_));
  }
  // The next slice of tokens, shared out among the pairs that meet this one.
  const int64_t next_slice = at.first + columns;
  const int64_t turns = (work.blocks + 1) / 2 * (columns / panel_group);
  int64_t lines = 0;
  if (next_slice < columns_ && next.first != next_slice) {
    const int64_t all = work.blocks * tokens.block_stride * 2 / 64;
    lines = (all + work.pairs * turns - 1) / (work.pairs * turns);
  }
  const auto* fetched = reinterpret_cast<const std::byte*>(
      lines > 0 ? tokens.at(work.first_block, next_slice) : nullptr);
  kernels_.panel.product({.panels = panels,
                          .panel_stride = panel_elements(columns, parts_),
                          .strips = strips,
                          .columns = columns,
                          .tokens = tokens.at(work.first_block, at.first),
                          .block_stride = tokens.block_stride,
                          .blocks = work.blocks,
                          .block_tokens = tokens.block_tokens,
                          .parts = parts_,
                          .accumulate = at.first > 0,
                          .sums = sums_of(work, tokens, at.pair, scratch),
                          .fetch = fetched + (at.pair - work.first_pair) * turns * lines * 64,
                          .fetch_lines = static_cast<int>(lines)});
}

void LinearPanel::finish(const Run& run, int64_t pair, const Work& work, const PackedTokens& tokens,
                         float* sums) const {
  const int strips = strips_of(pair);
  const int64_t floats = static_cast<int64_t>(tokens.block_tokens) * strip_rows;
  if (plan_.out_packed && all_take_panels(tokens.rows, kernels_)) {
    return pack_results(run, pair, work, tokens, sums);
  }
  for (int b = work.first_block; b < work.first_block + work.blocks; ++b, sums += strips * floats) {
    const int first = b * tokens.block_tokens;
    const int count = tokens.in_block(b);
    if (strips_.has_up()) {
      strips_.finish(run, pair, first, count, sums, sums + floats);
      continue;
    }
    for (int s = 0; s < strips; ++s) {
      strips_.finish(run, 2 * pair + s, first, count, sums + s * floats, nullptr);
    }
  }
}

void LinearPanel::pack_results(const Run& run, int64_t pair, const Work& work,
                               const PackedTokens& tokens, const float* sums) const {
  const PackedTokens out = packed_in_place(run, plan_.out, tokens.rows);
  const Strip& strip = strips_.strip(pair);
  const int64_t column = strip.part->first_row + strip.index * strip_rows;
  const int64_t floats = static_cast<int64_t>(tokens.block_tokens) * strip_rows;
  for (int b = work.first_block; b < work.first_block + work.blocks; ++b, sums += 2 * floats) {
    kernels_.panel.pack_gated(sums, sums + floats, *plan_.activation, tokens.in_block(b),
                              out.of_columns(b, column));
  }
}

}  // namespace ridge::backend::cpu
