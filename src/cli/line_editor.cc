#include "cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "cli/interrupt.h"

namespace ridge::cli {
namespace {

constexpr int history_lines = 1000;
constexpr int poll_interval_ms = 100;

// Waits for a byte of standard input; false once Ctrl-C was pressed.
bool wait_for_input() {
  while (!InterruptScope::requested()) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const int ready = ::poll(&input, 1, poll_interval_ms);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // the read will say what is wrong
  }
  return false;
}

// libedit's own reader goes on after a signal, so that Ctrl-C could not leave a line.
int read_character(EditLine*, wchar_t* character) {
  std::mbstate_t state{};
  while (true) {
    char byte = 0;
    if (!wait_for_input()) {
      errno = EINTR;
      return -1;
    }
    const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return static_cast<int>(count);
    // A Ctrl-D that was typed during an answer, when the terminal still collected lines. To libedit
    // it would mean that the next key is taken as it is, Ctrl-C among them.
    if (byte == '\0') continue;
    const std::size_t done = std::mbrtowc(character, &byte, 1, &state);
    if (done == static_cast<std::size_t>(-2)) continue;  // a character of several bytes
    if (done != static_cast<std::size_t>(-1)) return 1;
    state = {};
  }
}

}  // namespace

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string prompt;
  std::filesystem::path history_file;

  static char* show_prompt(EditLine* editor) {
    void* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return static_cast<State*>(state)->prompt.data();
  }
};

LineEditor::LineEditor(const std::filesystem::path& history_file)
    : state_(std::make_unique<State>()) {
  // Characters beyond ASCII need a locale that knows them.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1)
    std::setlocale(LC_CTYPE, "C.UTF-8");
  State& state = *state_;
  state.history_file = history_file;
  state.history = history_init();
  history(state.history, &state.event, H_SETSIZE, history_lines);
  history(state.history, &state.event, H_SETUNIQUE, 1);
  history(state.history, &state.event, H_LOAD, history_file.c_str());
  FILE* output = isatty(STDOUT_FILENO) ? stdout : stderr;
  state.editor = el_init("ridge", stdin, output, stderr);
  el_set(state.editor, EL_CLIENTDATA, state_.get());
  el_set(state.editor, EL_PROMPT, &State::show_prompt);
  el_set(state.editor, EL_EDITOR, "emacs");
  el_set(state.editor, EL_HIST, history, state.history);
  el_set(state.editor, EL_GETCFN, &read_character);
  el_source(state.editor, nullptr);  // ~/.editrc
}

LineEditor::~LineEditor() {
  el_end(state_->editor);
  history_end(state_->history);
}

LineEditor::Input LineEditor::read(const std::string& prompt) {
  state_->prompt = prompt;
  // Before the prompt shows, where libedit would do it after: a person may type at once.
  el_set(state_->editor, EL_PREP_TERM, 1);
  int bytes = 0;
  const char* line = el_gets(state_->editor, &bytes);
  if (InterruptScope::requested()) return {Outcome::interrupted, {}};
  if (line == nullptr || bytes <= 0) return {Outcome::end, {}};
  std::string text(line, static_cast<std::size_t>(bytes));
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return {Outcome::line, std::move(text)};
}

void LineEditor::remember(const std::string& line) {
  if (line.empty()) return;
  State& state = *state_;
  history(state.history, &state.event, H_ENTER, line.c_str());
  // Made first with the right mode; H_SAVE keeps the mode of a file that is there.
  const int file = ::open(state.history_file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return;
  ::close(file);
  history(state.history, &state.event, H_SAVE, state.history_file.c_str());
}

}  // namespace ridge::cli
