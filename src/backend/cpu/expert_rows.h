#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "backend/cpu/linear_path.h"

namespace ridge::backend::cpu {

// The rows of one step that one matrix multiplies, and with which kernels.
struct ExpertGroup {
  int expert;
  int first;  // of ExpertRows, in sorted order
  int rows;   // at least 1
  LinearPath path;
};

// A step's rows sorted by expert, over memory that somebody lends. A row is one choice of one
// token; within an expert rows keep the order of their tokens.
class ExpertRows {
 public:
  static size_t bytes(int tokens, int choices, int experts);
  // choices: of each token, at least 1
  ExpertRows(std::byte* memory, int tokens, int choices, int experts);

  // ids: [tokens, choices], rows `stride` apart; null where choice j is expert j.
  // takes: whether a token has rows at all; all have them where it is empty.
  void sort(const int32_t* ids, int64_t stride, const std::function<bool(int token)>& takes = {});

  int count() const { return count_; }
  int token(int row) const { return order_[row] / choices_; }
  int choice(int row) const { return order_[row] % choices_; }
  // Experts that have rows, in order.
  std::span<ExpertGroup> groups() { return {groups_, static_cast<size_t>(group_count_)}; }
  std::span<const ExpertGroup> groups() const {
    return {groups_, static_cast<size_t>(group_count_)};
  }
  const ExpertGroup& group_of(int row) const;

 private:
  int tokens_;
  int choices_;
  int experts_;
  int count_ = 0;
  int group_count_ = 0;
  ExpertGroup* groups_;  // [min(experts, rows)]
  int32_t* order_;       // [rows] token · choices + choice
  int32_t* ends_;        // [experts]
};

}  // namespace ridge::backend::cpu
