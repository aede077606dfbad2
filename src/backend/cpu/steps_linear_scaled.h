#pragma once

#include <atomic>

#include "backend/cpu/linear_strips.h"

namespace ridge::backend::cpu {

// The path of a linear step for a few tokens and weights of the K formats: see scaled.h.
class LinearScaled {
 public:
  // plan and strips must outlive it. max_rows: at least 1
  LinearScaled(const LinearPlan& plan, const LinearStrips& strips, int max_rows, int members,
               const KernelTable& kernels);

  // Whether all weights are of dtypes that have such kernels, and may be rounded.
  static bool serves(const LinearPlan& plan, const LinearStrips& strips,
                     const KernelTable& kernels);

  size_t shared_scratch_bytes() const;
  size_t member_scratch_bytes() const;

  // Called by every member at once. rows: 1 to max_rows; next: the step's counter, zero at first.
  void run(Run& run, int member, int rows, std::atomic<int64_t>& next) const;

 private:
  // Items of LinearStrips that pass together, of one dtype.
  struct Group {
    int64_t first;
    int count;
    DType dtype;
  };

  void make_groups(int64_t most);
  // strips_[…] of a group: with an up strip each item has two, one after the other.
  const std::byte* const* strips_of(const Group& group) const;
  ScaledTokens tokens(std::byte* memory, int rows) const;
  void pack(const Run& run, int row, const ScaledTokens& to, float* normed) const;

  const LinearPlan& plan_;
  const LinearStrips& strips_;
  const KernelTable& kernels_;
  const int64_t units_;  // of a strip
  const int max_rows_;
  const int width_;                     // strips of an item
  std::vector<const std::byte*> data_;  // of each strip
  std::vector<Group> groups_;
  int most_strips_ = 0;  // of a group
};

}  // namespace ridge::backend::cpu
