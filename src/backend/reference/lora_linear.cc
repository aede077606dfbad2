#include <vector>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

void add_adapter(std::span<const float> x, const ReferenceAdapter& adapter, std::span<float> out) {
  std::vector<float> down_row(adapter.down->columns());
  std::vector<double> low(adapter.down->rows());
  for (size_t r = 0; r < low.size(); ++r) {
    adapter.down->read_row(/*expert=*/0, static_cast<int64_t>(r), down_row);
    low[r] = dot(x, down_row);
  }
  std::vector<float> up_row(low.size());
  for (size_t n = 0; n < out.size(); ++n) {
    adapter.up->read_row(/*expert=*/0, static_cast<int64_t>(n), up_row);
    double sum = 0;
    for (size_t r = 0; r < low.size(); ++r) sum += low[r] * up_row[r];
    out[n] = static_cast<float>(out[n] + adapter.scale * sum);
  }
}

}  // namespace

void lora_linear(Rows32 x, std::span<const ReferenceAdapter> adapters,
                 std::span<const int32_t> adapter_of_row, Rows32 out) {
  for (int t = 0; t < x.rows; ++t) {
    if (adapter_of_row[t] < 0) continue;
    RIDGE_ASSERT(static_cast<size_t>(adapter_of_row[t]) < adapters.size());
    const ReferenceAdapter& adapter = adapters[adapter_of_row[t]];
    if (adapter.down != nullptr) add_adapter(x.row(t), adapter, out.row(t));
  }
}

}  // namespace ridge::backend::reference
