#pragma once

#include "backend/cpu/byte_tokens.h"
#include "backend/cpu/expert_rows.h"
#include "backend/cpu/linear_strips.h"
#include "backend/cpu/packed_tokens.h"
#include "backend/cpu/quantized_tokens.h"

namespace ridge::backend::cpu {

// The activations that the matrices of an expert step meet: each group's rows side by side, as the
// group's kernels want them. A token that several experts share is quantised once, as a tile of its
// own; an expert of that one row reads the tile as it stands, others get a copy.
class ExpertInputs {
 public:
  ExpertInputs(const ExpertPlan& plan, int choices, const LinearStrips& strips,
               const KernelTable& kernels);

  int planes() const { return planes_; }
  int panel_parts() const { return panel_parts_; }
  // Whether groups may take LinearPath::byte_panel.
  bool fits_bytes() const { return fits_bytes_; }
  // Bytes of memory for so many tokens.
  size_t bytes(int tokens) const;

  // One run's, in memory of bytes(tokens).
  struct Work {
    const Run& run;
    const ExpertRows& rows;
    std::byte* memory;
    int tokens;
  };
  // First every token where this is true, then, once all are there, every row.
  bool quantizes_tokens() const { return is_shared_ && any_quantized_; }
  void prepare_token(const Work& work, int token) const;
  void prepare_row(const Work& work, int row) const;

  // What was prepared for a group: codes for the paths of dots, bytes and packed for those of
  // panels.
  ByteTokens bytes(const Work& work, const ExpertGroup& group) const;
  QuantizedTokens codes(const Work& work, const ExpertGroup& group) const;
  PackedTokens packed(const Work& work, const ExpertGroup& group) const;
  struct Floats {
    const float* rows;  // the first
    int64_t stride;
  };
  Floats floats(const Work& work, const ExpertGroup& group) const;

 private:
  const float* x_of(const Work& work, int row) const;
  QuantizedTokens own_tile(const Work& work, int token) const;
  std::byte* at(const Work& work, const ExpertGroup& group) const;
  float* float_rows(const Work& work, const ExpertGroup& group) const;
  bool reads_own_tile(const ExpertGroup& group) const;
  int tile_rows(const ExpertGroup& group) const;
  void prepare_codes(const Work& work, const ExpertGroup& group, int row, const float* x) const;

  const ExpertPlan plan_;
  const KernelTable& kernels_;
  const int64_t columns_;
  const bool is_shared_;  // all choices of a token read the same x
  const bool any_quantized_;
  const bool any_plain_;
  const bool fits_bytes_;
  const int planes_;
  const int panel_parts_;
  const int choices_;
  size_t token_bytes_ = 0;  // of a token's own tile
  size_t code_bytes_ = 0;   // of a row
  size_t row_bytes_ = 0;    // codes and floats, or packed
};

}  // namespace ridge::backend::cpu
