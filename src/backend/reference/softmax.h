#pragma once

#include <algorithm>
#include <cmath>
#include <span>

namespace ridge::backend::reference {

// scores become probabilities, in double. `sink`, where finite, is one more logit that takes its
// share of the sum and gives nothing.
inline void softmax(std::span<double> scores, double sink = -INFINITY) {
  double largest = sink;
  for (double score : scores) largest = std::max(largest, score);
  double sum = std::exp(sink - largest);
  for (double& score : scores) {
    score = std::exp(score - largest);
    sum += score;
  }
  for (double& score : scores) score /= sum;
}

}  // namespace ridge::backend::reference
