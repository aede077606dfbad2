#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ridge::cli {

enum class Stream { output, error };
enum class Style { plain, bold, dim, red, green, yellow, cyan };

// What the standard streams are: a person's terminal or a pipe. Colours appear only on a terminal,
// and never where NO_COLOR is set (https://no-color.org) or TERM is "dumb".
class Terminal {
 public:
  // Looks at the three standard descriptors and the environment.
  Terminal();

  bool input_is_terminal() const { return input_is_terminal_; }
  bool is_terminal(Stream stream) const;
  bool has_color(Stream stream) const;
  // True where the locale can show characters beyond ASCII.
  bool has_unicode() const { return has_unicode_; }
  // Columns of the stream's terminal, 80 where it has none; 20 to 500.
  int columns(Stream stream) const;

  // `text` wrapped in the style's escape codes, or as it is where the stream has no colour.
  std::string styled(Stream stream, Style style, std::string_view text) const;

 private:
  bool input_is_terminal_;
  bool output_is_terminal_;
  bool error_is_terminal_;
  bool color_allowed_;
  bool has_unicode_;
};

// `text` with control characters replaced by '?', so that a name inside a file or a hub's answer
// cannot drive the terminal.
std::string printable(std::string_view text);

// 1536 -> "1.5 kB"; decimal units, as disks and hubs state them.
std::string format_bytes(int64_t size_bytes);
// 75 -> "1m15s"; whole units, at most two.
std::string format_duration(int64_t duration_s);

enum class Alignment { left, right };

// Rows in columns, each as wide as its widest cell; the header is bold on a terminal.
class Table {
 public:
  struct Column {
    std::string title;
    Alignment alignment = Alignment::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell for each column.
  void add_row(std::vector<std::string> cells);
  std::string to_string(const Terminal& terminal, Stream stream) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace ridge::cli
