#pragma once

#include <cstdint>
#include <vector>

#include "backend/ops.h"

namespace ridge::backend::ascend {

inline constexpr uint64_t memory_alignment = 512;

// Where each activation of a recording lies in one piece of memory, for the largest step. Those that
// are not alive at the same time may share their place; outputs are alive to the end.
struct Arena {
  std::vector<uint64_t> offsets;  // by storage, aligned
  uint64_t bytes = 0;
};
Arena lay_out_arena(const Recording& recording);

// Rows of a storage in a step of that shape.
int rows_of(const Storage& storage, const StepShape& shape);
// In the largest step, or 1.
int most_rows_of(Rows rows, const StepLimits& limits);

}  // namespace ridge::backend::ascend
