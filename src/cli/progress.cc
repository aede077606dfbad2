#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace ridge::cli {
namespace {

constexpr auto redraw_interval = std::chrono::milliseconds(100);
constexpr auto measure_interval = std::chrono::milliseconds(500);
// Weight of the newest half second: settles within about three seconds.
constexpr double newest_weight = 0.3;

std::string bar(double share, int width, bool unicode) {
  const int filled = std::clamp(static_cast<int>(share * width), 0, width);
  std::string text;
  for (int i = 0; i < width; ++i) {
    if (unicode) {
      text += i < filled ? "━" : "─";
    } else {
      text += i < filled ? '#' : '.';
    }
  }
  return text;
}

}  // namespace

void ProgressBar::measure_speed(TimePoint now, int64_t done_bytes) {
  const double elapsed_s = std::chrono::duration<double>(now - measured_at_).count();
  const double newest = static_cast<double>(done_bytes - measured_bytes_) / elapsed_s;
  bytes_per_second_ = bytes_per_second_ == 0
                          ? newest
                          : newest_weight * newest + (1 - newest_weight) * bytes_per_second_;
  measured_at_ = now;
  measured_bytes_ = done_bytes;
}

std::string ProgressBar::line(const std::string& label, int64_t done_bytes,
                              int64_t total_bytes) const {
  std::string figures = format_bytes(done_bytes);
  if (total_bytes > 0) figures += " of " + format_bytes(total_bytes);
  if (bytes_per_second_ > 0) {
    figures += fmt::format(", {}/s", format_bytes(static_cast<int64_t>(bytes_per_second_)));
    const auto left_s = static_cast<int64_t>((total_bytes - done_bytes) / bytes_per_second_);
    if (total_bytes > 0)
      figures += fmt::format(", {} left", format_duration(std::max<int64_t>(left_s, 0)));
  }
  const int columns = terminal_.columns(Stream::error) - 1;
  std::string text = printable(label);
  const int bar_width = std::min(30, columns - static_cast<int>(text.size() + figures.size()) - 9);
  if (total_bytes > 0 && bar_width >= 8) {
    const double share = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
    const std::string drawn = bar(share, bar_width, terminal_.has_unicode());
    text += fmt::format("  {} {:3.0f} %", terminal_.styled(Stream::error, Style::cyan, drawn),
                        std::min(100.0, 100 * share));
  }
  return text + "  " + figures;
}

void ProgressBar::update(const std::string& label, int64_t done_bytes, int64_t total_bytes) {
  if (!enabled_ || !terminal_.is_terminal(Stream::error)) return;
  const auto now = std::chrono::steady_clock::now();
  if (label != label_ || done_bytes < measured_bytes_) {
    label_ = label;
    measured_at_ = now;
    measured_bytes_ = done_bytes;
    bytes_per_second_ = 0;
  } else if (now - measured_at_ >= measure_interval) {
    measure_speed(now, done_bytes);
  }
  if (drawn_ && now - drawn_at_ < redraw_interval) return;
  drawn_at_ = now;
  drawn_ = true;
  fmt::print(stderr, "\r\033[2K{}", line(label, done_bytes, total_bytes));
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (!drawn_) return;
  drawn_ = false;
  std::fputs("\r\033[2K", stderr);
  std::fflush(stderr);
}

}  // namespace ridge::cli
