#pragma once

#include <vector>

#include "backend/ops.h"

namespace ridge::backend::ascend {

// The values that an op reads and writes; what it updates in place is in both.
struct Touched {
  std::vector<Value> reads, writes;
};
Touched touched_by(const Op& op);

}  // namespace ridge::backend::ascend
