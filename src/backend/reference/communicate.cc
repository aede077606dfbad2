#include <algorithm>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

void communicate(Rows32 x, Rows32 out) {
  if (x.columns != out.columns) {
    throw Error(ErrorCode::unsupported, "communicate: the reference device is a single rank");
  }
  for (int r = 0; r < x.rows; ++r) std::ranges::copy(x.row(r), out.row(r).begin());
}

}  // namespace ridge::backend::reference
