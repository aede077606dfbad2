#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "backend/cpu/linear_strips.h"
#include "backend/cpu/word_tokens.h"

namespace ridge::backend::cpu {

// The word panels' path of a linear step: see word_panel.h.
class LinearWordPanel {
 public:
  // plan and strips must outlive it; the strips fit word panels. max_rows: at least 1
  LinearWordPanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                  const KernelTable& kernels);

  size_t shared_scratch_bytes() const;
  size_t member_scratch_bytes() const;

  // Called by every member at once. rows: 1 to max_rows; next: the step's counter, zero at first
  void run(Run& run, int member, int rows, std::atomic<int64_t>& next) const;

 private:
  // Some columns of a pair: where its strips have them, and how much that is of each.
  struct Slice {
    const std::byte* first;
    const std::byte* second;
    int64_t columns;  // whole units
    int64_t bytes;
  };

  Slice slice_of(const OutputPair& pair, int64_t column) const;
  Slice slice_after(const PanelWork& work, int64_t pair, int64_t column) const;
  void multiply(const Run& run, const WordTokens& tokens, const PanelWork& work,
                std::byte* scratch) const;
  // The slice of a pair's columns from `column` on times the work's tiles.
  //   sums: [tiles][word_panel_tile_sums], as WordPanelKernels::multiply leaves them
  void multiply_slice(std::span<const WordTile> tiles, const PanelWork& work, int64_t pair,
                      int64_t column, std::byte* panel, float* sums) const;
  // Of one tile and the work's pairs.
  void fetch_outputs(const Run& run, const WordTokens& tokens, const PanelWork& work,
                     int tile) const;
  void finish(const Run& run, const WordTokens& tokens, const PanelWork& work, float* sums) const;

  const LinearPlan& plan_;
  const LinearStrips& strips_;
  const KernelTable& kernels_;
  const int max_rows_;
  const int64_t columns_;
  const std::vector<OutputPair> pairs_;
  int64_t slice_;  // columns of a panel
};

}  // namespace ridge::backend::cpu
