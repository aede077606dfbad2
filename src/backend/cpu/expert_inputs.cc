#include "backend/cpu/expert_inputs.h"

#include <cstring>

namespace ridge::backend::cpu {

namespace {

constexpr size_t line_bytes = 64;

size_t whole_lines(size_t bytes) { return (bytes + line_bytes - 1) / line_bytes * line_bytes; }

// A token's rows of a tile of its own into their places in another.
//   tiled: `to` lies as TileDotKernels wants it
void copy_rows(const ActivationTile& from, int64_t groups, bool tiled, const ActivationRows& to) {
  const int planes = to.planes, rows = to.tokens * planes;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = g * to.tokens + to.token;
    to.scales[at] = from.scales[g];
    to.group_sums[at] = from.group_sums[g];
    for (int half = 0; half < 2; ++half) {
      const int64_t half_at = (2 * g + half) * to.tokens + to.token;
      to.code_sums[half_at] = from.code_sums[2 * g + half];
      to.half_sums[half_at] = from.half_sums[2 * g + half];
    }
    for (int p = 0; p < planes; ++p) {
      const int8_t* codes = from.codes + 4 * (g * 8 * planes + p);
      const int row = to.token * planes + p;
      const int64_t step = tiled ? 4 : 4 * rows;
      int8_t* out =
          to.codes + (tiled ? activation_group * (g * rows + row) : 4 * (g * 8 * rows + row));
      for (int quad = 0; quad < 8; ++quad, codes += 4 * planes, out += step) {
        std::memcpy(out, codes, 4);
      }
    }
  }
}

// Strips side by side have to be of one dtype too.
bool fits(const LinearStrips& strips, const KernelTable& kernels) {
  const DType dtype = strips.strip(0).part->dtype;
  for (int64_t i = 1; i < strips.count() && !strips.has_up(); ++i) {
    if (strips.strip(i).part->dtype != dtype) return false;
  }
  return strips.fits(kernels.byte_panel);
}

}  // namespace

ExpertInputs::ExpertInputs(const ExpertPlan& plan, int choices, const LinearStrips& strips,
                           const KernelTable& kernels)
    : plan_(plan),
      kernels_(kernels),
      columns_(plan.weight->columns()),
      is_shared_(plan.x.columns == columns_ && plan.ids.valid()),
      any_quantized_(strips.any_quantized()),
      any_plain_(!strips.all_quantized()),
      fits_bytes_(fits(strips, kernels)),
      planes_(any_quantized_ ? activation_planes(plan.precision) : 1),
      panel_parts_(backend::cpu::panel_parts(plan.precision)),
      choices_(choices) {
  const size_t tile_bytes = QuantizedTokens::bytes(1, columns_, planes_);
  if (quantizes_tokens()) token_bytes_ = whole_lines(tile_bytes);
  if (any_quantized_) code_bytes_ = QuantizedTokens::bytes(2, columns_, planes_) - tile_bytes;
  row_bytes_ = code_bytes_ + (any_plain_ ? columns_ * sizeof(float) : 0);
  if (fits_bytes_) row_bytes_ = std::max(row_bytes_, ByteTokens::bytes(1, columns_));
  if (kernels.panel.product != nullptr) {
    // Of many rows, each has its share of what PackedTokens adds.
    constexpr int many = panel_token_block;
    const int64_t packed = PackedTokens::elements(many, panel_padded(columns_), panel_parts_);
    row_bytes_ = std::max(row_bytes_, (packed / many + 1) * sizeof(bf16_bits));
  }
  row_bytes_ = whole_lines(row_bytes_);
}

size_t ExpertInputs::bytes(int tokens) const {
  // Kernels may read a line further.
  return tokens * (token_bytes_ + choices_ * row_bytes_) + line_bytes;
}

const float* ExpertInputs::x_of(const Work& work, int row) const {
  const float* x =
      work.run.arena.at(plan_.x) + work.rows.token(row) * work.run.arena.stride(plan_.x);
  return is_shared_ ? x : x + work.rows.choice(row) * columns_;
}

QuantizedTokens ExpertInputs::own_tile(const Work& work, int token) const {
  return {work.memory + token * token_bytes_, 1, columns_, planes_, planes_};
}

std::byte* ExpertInputs::at(const Work& work, const ExpertGroup& group) const {
  return work.memory + work.tokens * token_bytes_ + group.first * row_bytes_;
}

float* ExpertInputs::float_rows(const Work& work, const ExpertGroup& group) const {
  return reinterpret_cast<float*>(at(work, group) + group.rows * code_bytes_);
}

bool ExpertInputs::reads_own_tile(const ExpertGroup& group) const {
  return quantizes_tokens() && group.rows == 1 && group.path == LinearPath::dot;
}

int ExpertInputs::tile_rows(const ExpertGroup& group) const {
  return group.path == LinearPath::tile_dot ? max_dot_rows : kernels_.tile_rows;
}

QuantizedTokens ExpertInputs::codes(const Work& work, const ExpertGroup& group) const {
  if (reads_own_tile(group)) return own_tile(work, work.rows.token(group.first));
  return {at(work, group), group.rows, columns_, planes_, tile_rows(group)};
}

ByteTokens ExpertInputs::bytes(const Work& work, const ExpertGroup& group) const {
  return {at(work, group), group.rows, columns_};
}

PackedTokens ExpertInputs::packed(const Work& work, const ExpertGroup& group) const {
  return {reinterpret_cast<bf16_bits*>(at(work, group)), group.rows, panel_padded(columns_),
          panel_parts_};
}

ExpertInputs::Floats ExpertInputs::floats(const Work& work, const ExpertGroup& group) const {
  if (group.rows == 1) return {x_of(work, group.first), columns_};
  return {float_rows(work, group), columns_};
}

void ExpertInputs::prepare_token(const Work& work, int token) const {
  const Arena& arena = work.run.arena;
  const float* x = arena.at(plan_.x) + token * arena.stride(plan_.x);
  kernels_.quantize_row(x, columns_, own_tile(work, token).rows(0));
}

void ExpertInputs::prepare_row(const Work& work, int row) const {
  const ExpertGroup& group = work.rows.group_of(row);
  const float* x = x_of(work, row);
  const int in_group = row - group.first;
  if (group.path == LinearPath::panel) {
    return packed(work, group).pack(kernels_.panel, in_group, x, columns_);
  }
  if (group.path == LinearPath::byte_panel) {
    return bytes(work, group).quantize(kernels_.byte_panel, in_group, x);
  }
  if (any_quantized_) prepare_codes(work, group, row, x);
  if (any_plain_ && group.rows > 1) {
    std::memcpy(float_rows(work, group) + in_group * columns_, x, columns_ * sizeof(float));
  }
}

void ExpertInputs::prepare_codes(const Work& work, const ExpertGroup& group, int row,
                                 const float* x) const {
  if (reads_own_tile(group)) return;
  const ActivationRows to = codes(work, group).rows(row - group.first);
  const bool tiled = group.path == LinearPath::tile_dot;
  if (is_shared_) {
    const QuantizedTokens own = own_tile(work, work.rows.token(row));
    return copy_rows(own.tile(0), own.groups(), tiled, to);
  }
  const auto quantize = tiled ? kernels_.tiles.quantize_row : kernels_.quantize_row;
  quantize(x, columns_, to);
}

}  // namespace ridge::backend::cpu
