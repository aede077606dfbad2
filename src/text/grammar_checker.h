#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::text {

// Compiles clients' grammars in a process of its own before this program does. A compilation that takes
// more memory or time than it may cannot be undone within a program, so that a few of them would end
// grammars for everybody; a process can be ended, and another takes its place.
//
// Over a socket that is the other program's standard input, in frames of a size (32 bits) and as many
// bytes: first the vocabulary; then for each grammar the kind (32 bits), the limit in ms (64 bits) and the
// source, and as the answer a tk_status (32 bits) and its message. Numbers are in the machine's order.
class GrammarChecker {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `command` starts a program that calls serve_grammar_checks(); `words` is what
  // tk_grammar_environment_words() gave.
  GrammarChecker(std::vector<std::string> command, std::string words);
  ~GrammarChecker();

  // Returns where the grammar compiles within the time, and throws else as GrammarCompiler::compile()
  // does. From any number of threads, each of which has a process. Where none can be started, the log
  // says so and nothing is checked.
  void check(int32_t kind, std::string_view source, TimePoint deadline);

 private:
  class Process;

  std::unique_ptr<Process> take();

  const std::vector<std::string> command_;
  const std::string words_;
  std::mutex mutex_;
  std::unique_ptr<Process> idle_;  // one is kept
};

// The other side: answers until `socket` ends.
void serve_grammar_checks(int socket);

}  // namespace ridge::text
