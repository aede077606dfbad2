#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/terminal.h"

namespace ridge::cli {

// One line on standard error that is drawn over itself, ten times a second at most; nothing at all
// where standard error is not a terminal.
class ProgressBar {
 public:
  ProgressBar(const Terminal& terminal, bool enabled) : terminal_(terminal), enabled_(enabled) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `total_bytes` 0 where it is not known. The speed is that of the last few seconds.
  void update(const std::string& label, int64_t done_bytes, int64_t total_bytes);
  // Removes the line, so that other text can be printed.
  void clear();

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  std::string line(const std::string& label, int64_t done_bytes, int64_t total_bytes) const;
  void measure_speed(TimePoint now, int64_t done_bytes);

  const Terminal& terminal_;
  const bool enabled_;
  bool drawn_ = false;
  std::string label_;
  TimePoint drawn_at_{};
  TimePoint measured_at_{};
  int64_t measured_bytes_ = 0;
  double bytes_per_second_ = 0;
};

}  // namespace ridge::cli
