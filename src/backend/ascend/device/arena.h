#pragma once

#include <cstdint>
#include <vector>

#include "backend/ops.h"

namespace ridge::backend::ascend {

// Where each activation of a recording lies in one piece of memory, for the largest step. Those that
// are not alive at the same time may share their place; outputs are alive to the end.
struct Arena {
  std::vector<uint64_t> offsets;  // by storage, multiples of 512
  uint64_t bytes = 0;
};
Arena lay_out_arena(const Recording& recording);

// Rows of a storage in a step of that shape.
int rows_of(const Storage& storage, const StepShape& shape);

}  // namespace ridge::backend::ascend
