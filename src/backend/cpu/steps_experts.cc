#include <algorithm>
#include <cstring>

#include "backend/cpu/expert_inputs.h"
#include "backend/cpu/linear_byte_panel.h"
#include "backend/cpu/steps.h"
#include "base/error.h"

// expert_linear and head_linear. Rows are sorted by expert; each expert's rows meet its matrix as a
// linear of so many rows would, with the same kernels. Members take strips of the matrices that
// have rows, large shares first and small ones at the end, so that nobody waits long for the last.
//
// A weighted sum over a token's experts gives a member the same strips of all experts at once: it
// adds them up in the order of the experts, alone and without a copy, so that the sum depends
// neither on the number of threads nor on the other tokens.
namespace ridge::backend::cpu {

namespace {

// Up to this many tokens, each member prepares the activations for itself: that costs less than a
// barrier.
constexpr int private_tokens = 2;

// Activations that stay in the second-level cache while strips of weights pass by.
constexpr int64_t block_bytes = 512 << 10;

// Of strips that are packed on the way.
constexpr size_t tiles_alignment = 64;

// A panel and the sums of a pair of strips.
constexpr size_t byte_panel_scratch =
    byte_panel_bytes + byte_panel_tiles * byte_panel_tile_sums * sizeof(float);

// Most pairs of strips that a member takes at once.
constexpr int64_t most_pairs = 32;

class ExpertStep final : public Step {
 public:
  ExpertStep(const ExpertPlan& plan, const StepLimits& limits, const KernelTable& kernels)
      : plan_(plan),
        kernels_(kernels),
        experts_(static_cast<int>(plan.weight->experts())),
        choices_(plan.ids.valid() ? plan.ids.columns : experts_),
        out_columns_(plan.activation ? plan.weight->rows() / 2 : plan.weight->rows()),
        strips_({.weight = plan.weight, .activation = plan.activation}),
        inputs_(plan, choices_, strips_, kernels),
        pages_(plan.weight->pages()),
        max_tokens_(plan.rows == Rows::tokens ? limits.tokens : limits.outputs) {}

  std::vector<Value> values() const override {
    std::vector<Value> all;
    for (const Value& v : {plan_.x, plan_.ids, plan_.weights, plan_.out}) {
      if (v.valid()) all.push_back(v);
    }
    return all;
  }
  size_t shared_scratch_bytes() const override { return inputs_.bytes(max_tokens_); }
  size_t member_scratch_bytes() const override {
    return ExpertRows::bytes(max_tokens_, choices_, experts_) +
           inputs_.bytes(std::min(max_tokens_, private_tokens)) + tiles_alignment +
           2 * packed_bytes() +
           std::max(panel_bytes(), inputs_.fits_bytes() ? byte_panel_scratch : 0);
  }

  void run(Run& run, int member) override {
    const int tokens = run.rows(plan_.rows);
    if (tokens == 0) return;
    std::byte* own = run.member_scratch[member].data();
    ExpertRows rows(own, tokens, choices_, experts_);
    sort(run, rows);
    if (rows.count() == 0) return;
    own += ExpertRows::bytes(tokens, choices_, experts_);
    if (pages_ != nullptr && !begin_pages(run, rows, member)) return;

    const bool few = tokens <= private_tokens;
    const ExpertInputs::Work work{run, rows, few ? own : run.shared_scratch, tokens};
    own += inputs_.bytes(std::min(max_tokens_, private_tokens));
    own += -reinterpret_cast<uintptr_t>(own) % tiles_alignment;
    const bool alone = few || run.members == 1;
    const int members = alone ? 1 : run.members;
    const int part = alone ? 0 : member;
    if (inputs_.quantizes_tokens()) {
      split_rows(tokens, members, part, [&](int token) { inputs_.prepare_token(work, token); });
      if (!alone) run.team.barrier();
    }
    split_rows(rows.count(), members, part, [&](int row) { inputs_.prepare_row(work, row); });
    if (!alone) run.team.barrier();

    for (Share share; take(run, rows, share);) {
      if (plan_.weights.valid()) clear(run, share, tokens);
      multiply(work, share, own);
    }
  }

 private:
  // Pairs of strips [first, last) of the matrices of some groups. A pair is a gate strip and its up
  // strip, or two strips side by side.
  struct Share {
    int first_group, groups;
    int64_t first, last;
  };

  int64_t pairs() const { return strips_.has_up() ? strips_.count() : (strips_.count() + 1) / 2; }
  // The output strips of pairs up to `pair`.
  int64_t strips_before(int64_t pair) const {
    return strips_.has_up() ? pair : std::min(2 * pair, strips_.count());
  }

  void sort(const Run& run, ExpertRows& rows) const {
    if (plan_.ids.valid()) {
      rows.sort(run.arena.ids_at(plan_.ids), run.arena.stride(plan_.ids));
    } else {
      std::function<bool(int)> takes;
      if (plan_.forms) takes = [&](int token) { return plan_.forms->absorbs_token(run, token); };
      rows.sort(nullptr, 0, takes);
    }
    for (ExpertGroup& group : rows.groups()) {
      group.path = choose_linear_path(group.rows, plan_.precision, strips_.all_quantized(),
                                      {.bytes = inputs_.fits_bytes()}, kernels_);
    }
  }

  // Whether the step may go on. One member sees to what all will read.
  bool begin_pages(Run& run, const ExpertRows& rows, int member) const {
    if (member == 0 && !run.failure) {
      try {
        pages_->begin(rows.groups());
        for (const CpuWeight* follower : plan_.followers) {
          if (follower->pages() != nullptr) follower->pages()->will_read(rows.groups());
        }
      } catch (...) {
        run.failure = std::current_exception();
      }
    }
    run.team.barrier();
    return !run.failure;
  }

  // The next share of the work, of a quarter of what each member has left.
  bool take(Run& run, const ExpertRows& rows, Share& share) const {
    const auto groups = static_cast<int>(rows.groups().size());
    const bool summed = plan_.weights.valid();
    const int64_t total = summed ? pairs() : groups * pairs();
    const auto chunk = take_chunk(run.counters[index], {.items = total,
                                                        .divisor = int64_t{4} * run.members,
                                                        .most = most_pairs,
                                                        .row = pairs()});
    if (!chunk) return false;
    const int64_t in_group = chunk->first % pairs();
    share = {summed ? 0 : static_cast<int>(chunk->first / pairs()), summed ? groups : 1, in_group,
             in_group + chunk->last - chunk->first};
    return true;
  }

  void multiply(const ExpertInputs::Work& work, const Share& share, std::byte* scratch) const {
    const auto groups = work.rows.groups().subspan(share.first_group, share.groups);
    for (size_t i = 0; i < groups.size(); ++i) {
      if (groups[i].path == LinearPath::panel) {
        multiply_panels(work, groups[i], share, scratch);
        continue;
      }
      if (groups[i].path == LinearPath::byte_panel) {
        multiply_byte_panels(work, groups[i], share, scratch);
        continue;
      }
      const Strip& first = strips_.strip(strips_before(share.first));
      const std::byte* after = i + 1 < groups.size() ? tiles_ahead(first, groups[i + 1]) : nullptr;
      multiply_dots(work, groups[i], share, after, scratch);
    }
  }

  int64_t first_row(const Strip& strip) const {
    return strip.part->first_row + strip.index * strip_rows;
  }
  static int width(const Strip& strip) {
    const int64_t left = strip.part->rows - strip.index * strip_rows;
    return static_cast<int>(std::min<int64_t>(left, strip_rows));
  }
  // A strip's tiles; those of paged experts may be packed into scratch[packed_bytes()].
  const std::byte* tiles(const Strip& strip, const ExpertGroup& group, std::byte* scratch) const {
    if (pages_ == nullptr) return strip.part->strip(strip.index, group.expert);
    return pages_->strip(*strip.part, strip.index, group.expert, scratch);
  }
  // Where a strip's tiles will be read, or null where they are not there yet.
  const std::byte* tiles_ahead(const Strip& strip, const ExpertGroup& group) const {
    if (pages_ == nullptr) return strip.part->strip(strip.index, group.expert);
    return pages_->packed_strip(*strip.part, strip.index, group.expert);
  }
  // Of the largest strip, where one may have to be packed.
  size_t packed_bytes() const {
    size_t most = 0;
    if (pages_ == nullptr) return most;
    for (const WeightPart& part : plan_.weight->parts()) most = std::max(most, part.strip_bytes);
    return (most + tiles_alignment - 1) / tiles_alignment * tiles_alignment;
  }

  void clear(const Run& run, const Share& share, int tokens) const {
    const int64_t first = first_row(strips_.strip(strips_before(share.first)));
    const Strip& last = strips_.strip(strips_before(share.last) - 1);
    const int64_t columns = first_row(last) + width(last) - first;
    float* out = run.arena.at(plan_.out) + first;
    for (int t = 0; t < tokens; ++t, out += run.arena.stride(plan_.out)) {
      std::memset(out, 0, columns * sizeof(float));
    }
  }

  void add_bias(const ExpertGroup& group, const Strip& strip, int count, float* result) const {
    const float* bias =
        plan_.bias->values() + group.expert * plan_.weight->rows() + first_row(strip);
    const int columns = width(strip);
    for (int i = 0; i < count; ++i, result += strip_rows) {
      for (int c = 0; c < columns; ++c) result[c] += bias[c];
    }
  }

  // Puts result[count][16] (overwritten) of an output strip where the plan wants it, for the
  // group's rows from `first` on. up: the up strip's, where there is one; overwritten too.
  void finish(const ExpertInputs::Work& work, const ExpertGroup& group, int64_t item, int first,
              int count, float* result, float* up) const {
    if (plan_.bias != nullptr) {
      add_bias(group, strips_.strip(item), count, result);
      if (up != nullptr) add_bias(group, strips_.up(item), count, up);
    }
    if (plan_.activation) {
      kernels_.gated_activation(result, up, *plan_.activation, count * strip_rows, result);
    }
    const Arena& arena = work.run.arena;
    const Strip& strip = strips_.strip(item);
    const int columns = width(strip);
    for (int i = 0; i < count; ++i, result += strip_rows) {
      const int row = group.first + first + i;
      const int token = work.rows.token(row);
      const int choice = work.rows.choice(row);
      float* out = arena.at(plan_.out) + token * arena.stride(plan_.out) + first_row(strip);
      if (!plan_.weights.valid()) {
        std::memcpy(out + choice * out_columns_, result, columns * sizeof(float));
        continue;
      }
      const float weight = arena.at(plan_.weights)[token * arena.stride(plan_.weights) + choice];
      for (int c = 0; c < columns; ++c) out[c] += weight * result[c];
    }
  }

  // ---------------------------------------------------------------- dots

  // One group's activations and the kernels' state.
  struct Dots {
    const ExpertInputs::Work& work;
    const ExpertGroup& group;
    QuantizedTokens codes;
    ExpertInputs::Floats floats;
    int64_t last;                      // the end of the strips
    const std::byte* after;            // what will be read after them, or null
    int configured = 0;                // rows that this thread's tiles are configured for
    const std::byte* tiles = nullptr;  // of the strip at hand
    const std::byte* up_tiles = nullptr;
  };

  void multiply_dots(const ExpertInputs::Work& work, const ExpertGroup& group, const Share& share,
                     const std::byte* after, std::byte* scratch) const {
    Dots x{work,
           group,
           inputs_.codes(work, group),
           inputs_.floats(work, group),
           strips_before(share.last),
           after};
    const auto tile_bytes = static_cast<int64_t>(
        QuantizedTokens::bytes((group.rows + x.codes.tiles() - 1) / x.codes.tiles(),
                               plan_.weight->columns(), inputs_.planes()));
    const int at_once = static_cast<int>(std::max<int64_t>(1, block_bytes / tile_bytes));
    for (int first_tile = 0; first_tile < x.codes.tiles(); first_tile += at_once) {
      const int last_tile = std::min(first_tile + at_once, x.codes.tiles());
      for (int64_t item = strips_before(share.first); item < x.last; ++item) {
        x.tiles = tiles(strips_.strip(item), group, scratch);
        if (strips_.has_up()) x.up_tiles = tiles(strips_.up(item), group, scratch + packed_bytes());
        for (int t = first_tile; t < last_tile; ++t) {
          // Even one row is better off with fetching, for the runs of an expert's strips are short.
          multiply_strip(x, item, t, t + 1 == last_tile);
        }
      }
    }
    if (x.configured != 0) kernels_.tiles.end();
  }

  // fetch: whether the caches should ask for the strips that follow meanwhile.
  void multiply_strip(Dots& x, int64_t item, int tile, bool fetch) const {
    alignas(64) float result[max_dot_rows * strip_rows];
    alignas(64) float up[max_dot_rows * strip_rows];
    const bool more = fetch && item + 1 < x.last;
    const std::byte* next = fetch ? x.after : nullptr;
    if (more) next = tiles_ahead(strips_.strip(item + 1), x.group);
    dot(x, *strips_.strip(item).part, x.tiles, tile, next, result);
    if (strips_.has_up()) {
      const std::byte* next_up = more ? tiles_ahead(strips_.up(item + 1), x.group) : nullptr;
      dot(x, *strips_.up(item).part, x.up_tiles, tile, next_up, up);
    }
    const int first = x.codes.first(tile);
    finish(x.work, x.group, item, first, x.codes.first(tile + 1) - first, result,
           strips_.has_up() ? up : nullptr);
  }

  // out[tokens][16]; next: as for DotTile.
  void dot(Dots& x, const WeightPart& part, const std::byte* tiles, int tile, const std::byte* next,
           float* out) const {
    const auto dtype = static_cast<int>(part.dtype);
    const int first = x.codes.first(tile);
    const int tokens = x.codes.first(tile + 1) - first;
    if (!is_quantized(part.dtype)) {
      const float* rows = x.floats.rows + first * x.floats.stride;
      return kernels_.float_dot[dtype][tokens](tiles, part.units, rows, x.floats.stride, out);
    }
    const ActivationTile t = x.codes.tile(tile);
    const bool tiled = x.group.path == LinearPath::tile_dot;
    if (tiled && t.rows() != x.configured) kernels_.tiles.begin(x.configured = t.rows());
    const DotTile multiply =
        tiled ? kernels_.tiles.dot[dtype] : kernels_.dot[t.planes - 1][dtype][t.tokens];
    multiply(tiles, part.units, t, next, out);
  }

  // ---------------------------------------------------------------- byte panels

  void multiply_byte_panels(const ExpertInputs::Work& work, const ExpertGroup& group,
                            const Share& share, std::byte* scratch) const {
    const ByteTokens tokens = inputs_.bytes(work, group);
    for (int first = 0; first < tokens.tiles(); first += byte_panel_tiles) {
      const int last = std::min(first + byte_panel_tiles, tokens.tiles());
      for (int64_t pair = share.first; pair < share.last; ++pair) {
        multiply_byte_pair(work, group, tokens, first, last, pair, scratch);
      }
    }
  }

  // A pair of strips by tiles [first_tile, last_tile) of the group's rows.
  void multiply_byte_pair(const ExpertInputs::Work& work, const ExpertGroup& group,
                          const ByteTokens& tokens, int first_tile, int last_tile, int64_t pair,
                          std::byte* scratch) const {
    std::byte* panel = scratch + 2 * packed_bytes();
    auto* const sums = reinterpret_cast<float*>(panel + byte_panel_bytes);
    const int64_t item = strips_before(pair);
    const Strip& first = strips_.strip(item);
    const Strip* second = nullptr;
    if (strips_.has_up()) {
      second = &strips_.up(item);
    } else if (item + 1 < strips_before(pair + 1)) {
      second = &strips_.strip(item + 1);
    }
    const DType dtype = first.part->dtype;
    const TileFormat format = tile_format(dtype);
    const std::byte* from = tiles(first, group, scratch);
    const std::byte* other =
        second == nullptr ? nullptr : tiles(*second, group, scratch + packed_bytes());
    const int64_t columns = plan_.weight->columns();
    const auto strips_at = [&](int64_t column) -> StripPair {
      const int64_t at = column / byte_panel_unit * format.unit_bytes();
      return {from + at, other == nullptr ? nullptr : other + at};
    };
    for (int64_t column = 0; column < columns; column += byte_panel_columns) {
      const int64_t width = std::min<int64_t>(byte_panel_columns, columns - column);
      ByteTile memory[byte_panel_tiles];
      // Past a strip's end lies the next one.
      multiply_byte_panel(
          kernels_.byte_panel, dtype, strips_at(column), width, strips_at(column + width),
          tokens.tiles(first_tile, last_tile, column, memory), column > 0, panel, sums);
    }
    for (int t = first_tile; t < last_tile; ++t) {
      float* result = sums + (t - first_tile) * byte_panel_tile_sums;
      const int count = tokens.count(t);
      float* result_of_second = result + count * strip_rows;
      if (strips_.has_up()) {
        finish(work, group, item, tokens.first(t), count, result, result_of_second);
        continue;
      }
      finish(work, group, item, tokens.first(t), count, result, nullptr);
      if (second == nullptr) continue;
      finish(work, group, item + 1, tokens.first(t), count, result_of_second, nullptr);
    }
  }

  // ---------------------------------------------------------------- panels

  int64_t panel_elements_of_pair() const {
    return 2 * panel_elements(panel_columns(inputs_.panel_parts()), inputs_.panel_parts());
  }
  size_t panel_bytes() const {
    if (kernels_.panel.product == nullptr) return 0;
    return panel_elements_of_pair() * sizeof(bf16_bits) +
           panel_chunk_blocks * panel_sum_floats(panel_token_block) * sizeof(float);
  }

  void multiply_panels(const ExpertInputs::Work& work, const ExpertGroup& group, const Share& share,
                       std::byte* scratch) const {
    const PackedTokens tokens = inputs_.packed(work, group);
    if (kernels_.panel.begin_products != nullptr) {
      kernels_.panel.begin_products(tokens.block_tokens);
    }
    for (int block = 0; block < tokens.blocks; block += panel_chunk_blocks) {
      for (int64_t pair = share.first; pair < share.last; ++pair) {
        multiply_pair(work, group, tokens, block, pair, scratch);
      }
    }
    if (kernels_.panel.end_products != nullptr) kernels_.panel.end_products();
  }

  // A pair of strips by up to panel_chunk_blocks blocks of the group's tokens.
  void multiply_pair(const ExpertInputs::Work& work, const ExpertGroup& group,
                     const PackedTokens& tokens, int first_block, int64_t pair,
                     std::byte* scratch) const {
    auto* panels = reinterpret_cast<bf16_bits*>(scratch + 2 * packed_bytes());
    auto* sums = reinterpret_cast<float*>(panels + panel_elements_of_pair());
    const int64_t item = strips_before(pair);
    const int strips = strips_.has_up() ? 2 : static_cast<int>(strips_before(pair + 1) - item);
    const int blocks = std::min(panel_chunk_blocks, tokens.blocks - first_block);
    const int parts = inputs_.panel_parts();
    const Strip* pair_strips[2];
    const std::byte* pair_tiles[2];
    for (int s = 0; s < strips; ++s) {
      pair_strips[s] = strips_.has_up() && s == 1 ? &strips_.up(item) : &strips_.strip(item + s);
      pair_tiles[s] =
          tiles(*pair_strips[s], group, scratch + static_cast<size_t>(s) * packed_bytes());
    }
    for (int64_t first = 0; first < tokens.columns; first += panel_columns(parts)) {
      const int64_t columns = std::min<int64_t>(panel_columns(parts), tokens.columns - first);
      for (int s = 0; s < strips; ++s) {
        const WeightPart& part = *pair_strips[s]->part;
        kernels_.panel.expand[parts - 1][static_cast<int>(part.dtype)](
            pair_tiles[s], part.units, first, columns, read_ahead_bytes,
            panels + s * panel_elements(columns, parts));
      }
      kernels_.panel.product({.panels = panels,
                              .panel_stride = panel_elements(columns, parts),
                              .strips = strips,
                              .columns = columns,
                              .tokens = tokens.at(first_block, first),
                              .block_stride = tokens.block_stride,
                              .blocks = blocks,
                              .block_tokens = tokens.block_tokens,
                              .parts = parts,
                              .accumulate = first > 0,
                              .sums = sums,
                              .fetch = nullptr,
                              .fetch_lines = 0});
    }
    const int64_t floats = static_cast<int64_t>(tokens.block_tokens) * strip_rows;
    for (int b = first_block; b < first_block + blocks; ++b) {
      for (int s = 0; s < (strips_.has_up() ? 1 : strips); ++s) {
        float* result = sums + ((b - first_block) * strips + s) * floats;
        finish(work, group, item + s, b * tokens.block_tokens, tokens.in_block(b), result,
               strips_.has_up() ? result + floats : nullptr);
      }
    }
  }

  const ExpertPlan plan_;
  const KernelTable& kernels_;
  const int experts_;
  const int choices_;
  const int64_t out_columns_;  // of one choice
  const LinearStrips strips_;  // of one matrix
  const ExpertInputs inputs_;
  ExpertPages* const pages_;  // null where all experts are in memory
  const int max_tokens_;
};

}  // namespace

std::unique_ptr<Step> make_expert_step(const ExpertPlan& plan, const StepLimits& limits,
                                       const KernelTable& kernels) {
  return std::make_unique<ExpertStep>(plan, limits, kernels);
}

}  // namespace ridge::backend::cpu
