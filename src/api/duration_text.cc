#include "api/duration_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace ridge::api {
namespace {

constexpr double longest_s = 100.0 * 365 * 24 * 60 * 60;

// Longer names stand before those that they begin with.
constexpr std::pair<std::string_view, double> units_s[] = {{"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6},
                                                           {"μs", 1e-6}, {"ms", 1e-3}, {"s", 1},
                                                           {"m", 60},    {"h", 3600}};

// Takes a unit off the front of `text`.
std::optional<double> take_unit(std::string_view& text) {
  for (const auto& [name, seconds] : units_s) {
    if (!text.starts_with(name)) continue;
    text.remove_prefix(name.size());
    return seconds;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Clock::Duration> parse_duration(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (text == "0") return Clock::Duration::zero();
  if (text.empty()) return std::nullopt;
  double seconds = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, failure] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (failure != std::errc() || std::signbit(number) || !std::isfinite(number)) {
      return std::nullopt;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const auto unit_s = take_unit(text);
    if (!unit_s) return std::nullopt;
    seconds += number * *unit_s;
  }
  return duration_of(is_negative ? -seconds : seconds);
}

Clock::Duration duration_of(double seconds) {
  const std::chrono::duration<double> bounded(std::clamp(seconds, -longest_s, longest_s));
  return std::chrono::duration_cast<Clock::Duration>(bounded);
}

}  // namespace ridge::api
