#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "backend/cpu/steps.h"

namespace ridge::backend::cpu {

// The activations of one row of a linear, after its norm where the plan has one: then in
// normed[columns].
const float* input_row(const LinearPlan& plan, const Run& run, int row, const KernelTable& kernels,
                       float* normed);

// 16 rows of one part of a weight.
struct Strip {
  const WeightPart* part;
  int64_t index;  // within the part

  const std::byte* tiles() const { return part->strip(index); }
};

// Strips that a panel holds together: a gate strip and its up strip, or one or two side by side of
// the same dtype.
struct OutputPair {
  int64_t item;  // the first's place
  int outputs;   // strips of outputs, 1 or 2
  const Strip* first;
  const Strip* second;  // null where the first is alone
};

// What a member multiplies at once on panels: some pairs by the tiles of one block of tokens.
struct PanelWork {
  int first_tile, last_tile;
  int64_t first_pair, last_pair;
};
// The next of these, or none. next: zero at first
//   most_tiles, most_pairs: of one
std::optional<PanelWork> take_panel_work(std::atomic<int64_t>& next, int tiles, int most_tiles,
                                         int64_t pairs, int64_t most_pairs, int members);

// The strips of a linear in the order of its outputs, and what becomes of their results: bias,
// activation, residual.
class LinearStrips {
 public:
  // The weight and bias must outlive it.
  explicit LinearStrips(const LinearPlan& plan);

  // Strips of outputs; with an activation each has a gate strip and an up strip.
  int64_t count() const { return static_cast<int64_t>(strips_.size()); }
  const Strip& strip(int64_t item) const { return strips_[item]; }
  const Strip& up(int64_t item) const { return up_strips_[item]; }
  bool has_up() const { return !up_strips_.empty(); }
  // Every part's dtype is one of tile_format.h.
  bool all_quantized() const { return all_quantized_; }
  bool any_quantized() const { return any_quantized_; }
  // Panels have kernels for every part, and each gate strip has the dtype of its up strip.
  //   kernels: BytePanelKernels or WordPanelKernels
  template <class Kernels>
  bool fits(const Kernels& kernels) const {
    for (size_t i = 0; i < strips_.size(); ++i) {
      const DType dtype = strips_[i].part->dtype;
      if (kernels.multiply[static_cast<int>(dtype)] == nullptr) return false;
      if (has_up() && up_strips_[i].part->dtype != dtype) return false;
    }
    return true;
  }

  // All strips by twos, as panels take them. They refer to this object.
  std::vector<OutputPair> pairs() const;

  // Asks for the lines of memory that finish() will write.
  void fetch_outputs(const Run& run, int64_t item, int first_token, int tokens) const;
  // Puts result[tokens][16] of a strip where the plan wants it, for the tokens from `first_token`
  // on. up: the up strip's, where there is one.
  void finish(const Run& run, int64_t item, int first_token, int tokens, const float* result,
              const float* up) const;
  // The same of a pair. results: [2 strips][tokens][16]
  void fetch_outputs(const Run& run, const OutputPair& pair, int first_token, int tokens) const;
  void finish(const Run& run, const OutputPair& pair, int first_token, int tokens,
              const float* results) const;

 private:
  Strip find(int64_t row) const;

  const LinearPlan plan_;
  std::vector<Strip> strips_;
  std::vector<Strip> up_strips_;  // of the same places
  bool all_quantized_ = true;
  bool any_quantized_ = false;
};

}  // namespace ridge::backend::cpu
