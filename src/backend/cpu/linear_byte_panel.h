#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "backend/cpu/byte_tokens.h"
#include "backend/cpu/linear_strips.h"

namespace ridge::backend::cpu {

// Two strips of one dtype, or one: then `second` is null.
struct StripPair {
  const std::byte* first;
  const std::byte* second;
};

// Some columns of two strips times tiles of tokens.
//   columns: from the strips' places on, whole units, at most byte_panel_columns
//   ahead: the strips that will be unpacked next, from the column that will be first; null where
//     none are known
//   panel: [byte_panel_bytes], 64-byte aligned like `sums`
//   tiles: from these columns on
//   sums: [tiles][byte_panel_tile_sums], as BytePanelKernels::multiply leaves them
void multiply_byte_panel(const BytePanelKernels& kernels, DType dtype, const StripPair& strips,
                         int64_t columns, const StripPair& ahead, std::span<const ByteTile> tiles,
                         bool accumulate, std::byte* panel, float* sums);

// The byte panels' path of a linear step: see byte_panel.h.
class LinearBytePanel {
 public:
  // plan and strips must outlive it; the strips fit byte panels. max_rows: at least 1
  LinearBytePanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
                  const KernelTable& kernels);

  size_t shared_scratch_bytes() const;
  size_t member_scratch_bytes() const;

  // Called by every member at once. rows: 1 to max_rows; next: the step's counter, zero at first
  void run(Run& run, int member, int rows, std::atomic<int64_t>& next) const;

 private:
  static StripPair strips_of(const OutputPair& pair, int64_t column);
  void multiply(const Run& run, const ByteTokens& tokens, const PanelWork& work,
                std::byte* scratch) const;

  const LinearPlan& plan_;
  const LinearStrips& strips_;
  const KernelTable& kernels_;
  const int max_rows_;
  const int64_t columns_;
  const std::vector<OutputPair> pairs_;
};

}  // namespace ridge::backend::cpu
