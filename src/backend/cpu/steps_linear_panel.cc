#include "backend/cpu/steps_linear_panel.h"

#include <algorithm>

#include "backend/cpu/linear_path.h"
#include "backend/cpu/packed_tokens.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Pairs of strips that meet a slice of the packed tokens before the next slice, which is fetched
// meanwhile, takes its place in the second-level cache. Their sums stay there too: 64 KiB a pair.
constexpr int64_t pairs_together = 12;
// Shares of the work for each member, at least.
constexpr int64_t shares = 3;

// The second-level cache should fetch columns [first, first + columns) of a strip.
void fetch_strip(const Strip& strip, int64_t first, int64_t columns) {
  const TileFormat format = tile_format(strip.part->dtype);
  const bool quantized = is_quantized(strip.part->dtype);
  const auto bytes = [&](int64_t k) {
    return quantized ? k / format.unit_columns() * format.unit_bytes()
                     : k * strip_rows * static_cast<int64_t>(traits(strip.part->dtype).block_bytes);
  };
  const std::byte* from = strip.tiles() + bytes(first);
  const std::byte* end = strip.tiles() + bytes(first + columns);
  for (; from < end; from += 64) __builtin_prefetch(from, 0, 2);
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
  const PackedTokens tokens{reinterpret_cast<bf16_bits*>(run.shared_scratch), rows, columns_,
                            parts_};
  std::byte* scratch = run.member_scratch[member].data();
  const int members = run.team.size();
  split_rows(rows, members, member,
             [&](int row) { pack(run, row, tokens, reinterpret_cast<float*>(scratch)); });
  run.team.barrier();
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
  const float* x = run.arena.at(plan_.x) + row * run.arena.stride(plan_.x);
  const int64_t columns = plan_.weight->columns();
  if (plan_.norm != nullptr) {
    kernels_.rms_norm(x, plan_.norm->values(), plan_.eps, columns, normed);
    x = normed;
  }
  tokens.pack(kernels_.panel, row, x, columns);
}

void LinearPanel::multiply(const Run& run, const Work& work, const PackedTokens& tokens,
                           std::byte* scratch) const {
  auto* panels = reinterpret_cast<bf16_bits*>(scratch);
  auto* sums = reinterpret_cast<float*>(panels + 2 * panel_elements(panel_columns(parts_), parts_));
  const int64_t pair_floats = work.blocks * panel_sum_floats(tokens.block_tokens);
  for (int64_t first = 0; first < columns_; first += panel_columns(parts_)) {
    const int64_t columns = std::min<int64_t>(panel_columns(parts_), columns_ - first);
    const int64_t next = first + columns;
    const int64_t next_columns = std::min<int64_t>(panel_columns(parts_), columns_ - next);
    // The next slice, shared out among the pairs of this one.
    const int64_t turns = work.pairs * ((work.blocks + 1) / 2) * (columns / panel_group);
    const int64_t lines =
        next_columns > 0 ? (work.blocks * tokens.block_stride * 2 / 64 + turns - 1) / turns : 0;
    const auto* fetch = reinterpret_cast<const std::byte*>(
        lines > 0 ? tokens.at(work.first_block, next) : nullptr);
    for (int64_t p = 0; p < work.pairs; ++p) {
      expand(work.first_pair + p, first, columns, panels);
      if (p + 1 < work.pairs) {
        fetch_pair(work.first_pair + p + 1, first, columns);
      } else if (next_columns > 0) {
        fetch_pair(work.first_pair, next, next_columns);
      }
      kernels_.panel.product({.panels = panels,
                              .panel_stride = panel_elements(columns, parts_),
                              .strips = strips_of(work.first_pair + p),
                              .columns = columns,
                              .tokens = tokens.at(work.first_block, first),
                              .block_stride = tokens.block_stride,
                              .blocks = work.blocks,
                              .block_tokens = tokens.block_tokens,
                              .parts = parts_,
                              .accumulate = first > 0,
                              .sums = sums + p * pair_floats,
                              .fetch = fetch + p * (turns / work.pairs) * lines * 64,
                              .fetch_lines = static_cast<int>(lines)});
    }
  }
  for (int64_t p = 0; p < work.pairs; ++p) {
    finish(run, work.first_pair + p, work, tokens, sums + p * pair_floats);
  }
}

void LinearPanel::expand(int64_t pair, int64_t first, int64_t columns, bf16_bits* panels) const {
  for (int s = 0; s < strips_of(pair); ++s) {
    const Strip& strip = strip_of(pair, s);
    kernels_.panel.expand[parts_ - 1][static_cast<int>(strip.part->dtype)](
        strip.tiles(), strip.part->units, first, columns, panels + s * panel_elements(columns, parts_));
  }
}

void LinearPanel::fetch_pair(int64_t pair, int64_t first, int64_t columns) const {
  for (int s = 0; s < strips_of(pair); ++s) fetch_strip(strip_of(pair, s), first, columns);
}

void LinearPanel::finish(const Run& run, int64_t pair, const Work& work, const PackedTokens& tokens,
                         float* sums) const {
  const int strips = strips_of(pair);
  const int64_t floats = static_cast<int64_t>(tokens.block_tokens) * strip_rows;
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

}  // namespace ridge::backend::cpu
