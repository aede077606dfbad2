#include <algorithm>
#include <vector>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

void communicate(Rows32 x, const Communicate& op, Communicator* communicator, Rows32 out) {
  if (x.columns == out.columns) {
    for (int r = 0; r < x.rows; ++r) std::ranges::copy(x.row(r), out.row(r).begin());
    return;
  }
  RIDGE_ASSERT(communicator != nullptr && op.kind == Reduction::all_gather);
  std::vector<size_t> counts;
  for (const int columns : op.columns_of_rank) {
    counts.push_back(sizeof(float) * static_cast<size_t>(op.groups) * columns);
  }
  std::vector<float> all(out.columns);
  for (int r = 0; r < x.rows; ++r) {
    const auto row = x.row(r);
    communicator->all_gather(std::as_bytes(std::span(row.data(), row.size())), counts,
                             std::as_writable_bytes(std::span(all)));
    auto to = out.row(r).begin();
    for (int group = 0; group < op.groups; ++group) {
      const float* of_rank = all.data();
      for (const int columns : op.columns_of_rank) {
        to = std::copy_n(of_rank + group * columns, columns, to);
        of_rank += op.groups * columns;
      }
    }
  }
}

}  // namespace ridge::backend::reference
