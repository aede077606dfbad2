#include <algorithm>
#include <cstring>

#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// What is gathered at once: a few megabytes, which stay in a cache until they are put in their place.
constexpr size_t gathered_bytes = 4 << 20;

// Ranks tell each other rows of their parts, a few rows at a time, and every member puts rows of the
// parts side by side.
class AllGatherStep final : public Step {
 public:
  AllGatherStep(const Communicate& op, Rows rows, const StepLimits& limits,
                Communicator& communicator)
      : op_(op), rows_(rows), communicator_(communicator) {
    const int own = op_.groups * op_.columns_of_rank[static_cast<size_t>(communicator.rank())];
    RIDGE_ASSERT(op_.x.columns == own);
    const size_t row_bytes = static_cast<size_t>(op_.out.columns) * sizeof(float);
    const int most = rows == Rows::tokens ? limits.tokens : limits.outputs;
    // The same at every rank.
    rows_at_once_ = std::clamp(static_cast<int>(gathered_bytes / row_bytes), 1, std::max(1, most));
  }

  std::vector<Value> values() const override { return {op_.x, op_.out}; }
  size_t shared_scratch_bytes() const override {
    const auto columns = static_cast<size_t>(op_.out.columns) + op_.x.columns;
    return static_cast<size_t>(rows_at_once_) * columns * sizeof(float);
  }

  void run(Run& run, int member) override {
    const int rows = run.rows(rows_);
    for (int first = 0; first < rows; first += rows_at_once_) {
      if (first > 0) run.team.barrier();  // before the last rows' parts are overwritten
      const int count = std::min(rows_at_once_, rows - first);
      if (member == 0) exchange(run, first, count);
      run.team.barrier();
      split_rows(count, run.members, member, [&](int row) { place(run, first, row, count); });
    }
  }

 private:
  float* parts(const Run& run) const { return reinterpret_cast<float*>(run.shared_scratch); }

  void exchange(Run& run, int first, int count) {
    counts_.clear();
    for (const int columns : op_.columns_of_rank) {
      counts_.push_back(sizeof(float) * static_cast<size_t>(count) * op_.groups * columns);
    }
    const int64_t stride = run.arena.stride(op_.x);
    const float* own = run.arena.at(op_.x) + first * stride;
    const size_t all = static_cast<size_t>(count) * op_.out.columns;
    if (stride != op_.x.columns) {
      float* packed = parts(run) + static_cast<size_t>(rows_at_once_) * op_.out.columns;
      for (int row = 0; row < count; ++row) {
        std::memcpy(packed + static_cast<int64_t>(row) * op_.x.columns, own + row * stride,
                    static_cast<size_t>(op_.x.columns) * sizeof(float));
      }
      own = packed;
    }
    communicator_.all_gather(
        std::as_bytes(std::span(own, static_cast<size_t>(count) * op_.x.columns)), counts_,
        std::as_writable_bytes(std::span(parts(run), all)));
  }

  void place(const Run& run, int first, int row, int count) const {
    float* to = run.arena.at(op_.out) + (first + row) * run.arena.stride(op_.out);
    for (int group = 0; group < op_.groups; ++group) {
      const float* of_rank = parts(run);
      for (const int columns : op_.columns_of_rank) {
        const int64_t at = static_cast<int64_t>(row) * op_.groups + group;
        std::memcpy(to, of_rank + at * columns, static_cast<size_t>(columns) * sizeof(float));
        to += columns;
        of_rank += static_cast<int64_t>(count) * op_.groups * columns;
      }
    }
  }

  const Communicate op_;
  const Rows rows_;
  Communicator& communicator_;
  int rows_at_once_ = 1;
  std::vector<size_t> counts_;  // of member 0
};

}  // namespace

std::unique_ptr<Step> make_all_gather_step(const Communicate& op, Rows rows,
                                           const StepLimits& limits, Communicator& communicator) {
  return std::make_unique<AllGatherStep>(op, rows, limits, communicator);
}

}  // namespace ridge::backend::cpu
