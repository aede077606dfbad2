#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace ridge::cli {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos;
  }
  return false;
}

std::string_view escape_code(Style style) {
  switch (style) {
    case Style::plain:
      return "";
    case Style::bold:
      return "\033[1m";
    case Style::dim:
      return "\033[2m";
    case Style::red:
      return "\033[31m";
    case Style::green:
      return "\033[32m";
    case Style::yellow:
      return "\033[33m";
    case Style::cyan:
      return "\033[36m";
  }
  return "";
}

// Counts code points: enough for the names and figures that tables show.
size_t width_of(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; });
}

}  // namespace

Terminal::Terminal()
    : input_is_terminal_(isatty(STDIN_FILENO) == 1),
      output_is_terminal_(isatty(STDOUT_FILENO) == 1),
      error_is_terminal_(isatty(STDERR_FILENO) == 1),
      color_allowed_(environment("NO_COLOR").empty() && environment("TERM") != "dumb"),
      has_unicode_(locale_is_utf8()) {}

bool Terminal::is_terminal(Stream stream) const {
  return stream == Stream::output ? output_is_terminal_ : error_is_terminal_;
}

bool Terminal::has_color(Stream stream) const { return color_allowed_ && is_terminal(stream); }

int Terminal::columns(Stream stream) const {
  winsize size{};
  const int descriptor = stream == Stream::output ? STDOUT_FILENO : STDERR_FILENO;
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return std::clamp<int>(size.ws_col, 20, 500);
}

std::string Terminal::styled(Stream stream, Style style, std::string_view text) const {
  if (style == Style::plain || !has_color(stream)) return std::string(text);
  return fmt::format("{}{}\033[0m", escape_code(style), text);
}

std::string printable(std::string_view text) {
  std::string result(text);
  for (char& byte : result) {
    const auto value = static_cast<unsigned char>(byte);
    if (value < 0x20 || value == 0x7f) byte = '?';
  }
  // C1 controls (U+0080 to U+009F) drive some terminals as well.
  for (size_t i = 0; i + 1 < result.size(); ++i) {
    const auto second = static_cast<unsigned char>(result[i + 1]);
    if (static_cast<unsigned char>(result[i]) == 0xc2 && second >= 0x80 && second <= 0x9f) {
      result[i] = result[i + 1] = '?';
    }
  }
  return result;
}

std::string format_bytes(int64_t size_bytes) {
  if (size_bytes < 1000) return fmt::format("{} B", size_bytes);
  double value = static_cast<double>(size_bytes);
  for (const char* unit : {"kB", "MB", "GB"}) {
    value /= 1000;
    if (value < 999.5) return fmt::format("{:.{}f} {}", value, value < 9.95 ? 1 : 0, unit);
  }
  return fmt::format("{:.1f} TB", value / 1000);
}

std::string format_duration(int64_t duration_s) {
  if (duration_s < 60) return fmt::format("{}s", duration_s);
  if (duration_s < 3600) return fmt::format("{}m{:02}s", duration_s / 60, duration_s % 60);
  return fmt::format("{}h{:02}m", duration_s / 3600, duration_s % 3600 / 60);
}

void Table::add_row(std::vector<std::string> cells) {
  RIDGE_ASSERT(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::to_string(const Terminal& terminal, Stream stream) const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = width_of(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string text;
  const auto append_row = [&](auto cell_of, Style style) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - width_of(cell), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].alignment == Alignment::right ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += terminal.styled(stream, style, line) + "\n";
  };
  append_row([&](size_t i) -> const std::string& { return columns_[i].title; }, Style::bold);
  for (const auto& row : rows_) {
    append_row([&](size_t i) -> const std::string& { return row[i]; }, Style::plain);
  }
  return text;
}

}  // namespace ridge::cli
