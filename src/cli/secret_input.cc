#include "cli/secret_input.h"

#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <iostream>

#include "base/error.h"

namespace ridge::cli {
namespace {

// Shows nothing that is typed while it lives. A Ctrl-C in between leaves the terminal as it was,
// for the shell restores it.
class NoEcho {
 public:
  NoEcho() {
    tcgetattr(STDIN_FILENO, &before_);
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    silent.c_lflag |= ECHONL;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  ~NoEcho() { tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_); }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  termios before_{};
};

std::string read_line() {
  std::string line;
  if (!std::getline(std::cin, line)) {
    throw Error(ErrorCode::invalid_argument,
                "no password came; type it, or give it as a line of standard input");
  }
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

std::string ask(const std::string& prompt) {
  fmt::print(stderr, "{}", prompt);
  std::fflush(stderr);
  return read_line();
}

}  // namespace

std::string read_new_password(const Context& context, const std::string& whose) {
  if (!context.terminal().input_is_terminal()) return read_line();
  const NoEcho silent;
  std::string password = ask(fmt::format("New password of {}: ", printable(whose)));
  if (ask("The same again: ") != password) {
    throw Error(ErrorCode::invalid_argument, "the two passwords differ");
  }
  return password;
}

}  // namespace ridge::cli
