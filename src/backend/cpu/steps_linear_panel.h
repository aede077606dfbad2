#pragma once

#include <atomic>

#include "backend/cpu/linear_strips.h"

namespace ridge::backend::cpu {

struct PackedTokens;

// The panel path of a linear step: see panel.h.
class LinearPanel {
 public:
  // plan and strips must outlive it. max_rows: at least 1
  LinearPanel(const LinearPlan& plan, const LinearStrips& strips, int max_rows,
              const KernelTable& kernels);

  size_t shared_scratch_bytes() const;
  size_t member_scratch_bytes() const;

  // Called by every member at once. rows: 1 to max_rows; next: the step's counter, zero at first.
  void run(Run& run, int member, int rows, std::atomic<int64_t>& next) const;

 private:
  struct Work;

  void pack(const Run& run, int row, const PackedTokens& tokens, float* normed) const;
  void multiply(const Run& run, const Work& work, const PackedTokens& tokens, std::byte* scratch) const;
  // A slice of columns of a pair of strips.
  struct Place {
    int64_t pair, first;
  };
  // next: what will follow, or past the work's last pair or the last column.
  void multiply_slice(const Work& work, const PackedTokens& tokens, Place at, Place next,
                      std::byte* scratch) const;
  float* sums_of(const Work& work, const PackedTokens& tokens, int64_t pair,
                 std::byte* scratch) const;
  void finish(const Run& run, int64_t pair, const Work& work, const PackedTokens& tokens,
              float* sums) const;
  // Of a gate strip and its up strip, for the linear that follows.
  void pack_results(const Run& run, int64_t pair, const Work& work, const PackedTokens& tokens,
                    const float* sums) const;

  int64_t pairs() const;
  int strips_of(int64_t pair) const;
  const Strip& strip_of(int64_t pair, int which) const;

  const LinearPlan& plan_;
  const LinearStrips& strips_;
  const KernelTable& kernels_;
  const int parts_;
  const int64_t columns_;  // panel_padded
  const int max_rows_;
};

}  // namespace ridge::backend::cpu
