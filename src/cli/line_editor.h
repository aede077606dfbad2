#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace ridge::cli {

// Reads lines from a person at a terminal, with editing and a history that is kept in a file
// (libedit). One at a time.
class LineEditor {
 public:
  enum class Outcome { line, interrupted, end };
  struct Input {
    Outcome outcome;
    std::string line;  // without its line break
  };

  // `history_file` is read now and written by each remember(); only its owner may read it.
  explicit LineEditor(const std::filesystem::path& history_file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // interrupted: Ctrl-C (see InterruptScope, which must live); end: Ctrl-D on an empty line.
  Input read(const std::string& prompt);
  void remember(const std::string& line);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ridge::cli
