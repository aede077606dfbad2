#pragma once

#include <string>
#include <string_view>

#include "cli/terminal.h"
#include "engine/request.h"

namespace ridge::cli {

// Prints an answer as it comes: the content to standard output, exactly as it is where that is no
// terminal. The reasoning stands apart: dim on the terminal, else on standard error.
class AnswerPrinter {
 public:
  AnswerPrinter(const Terminal& terminal, bool hides_reasoning, bool is_quiet)
      : terminal_(terminal), hides_reasoning_(hides_reasoning), is_quiet_(is_quiet) {}

  void print(std::string_view reasoning, std::string_view content);
  // The line break that ends the answer.
  void finish();

 private:
  void print_reasoning(std::string_view text);
  void end_reasoning();

  const Terminal& terminal_;
  const bool hides_reasoning_;
  const bool is_quiet_;
  bool in_reasoning_ = false;
  char last_ = '\n';  // printed last on standard output
};

// "123 tokens, 45.6 tokens/s, first after 0.12 s", for standard error.
std::string describe_speed(const engine::Usage& usage);

// Model text for a terminal: control characters but line breaks and tabs become '?', so that an
// answer cannot move the cursor or change the title.
std::string safe_for_terminal(std::string_view text);

}  // namespace ridge::cli
