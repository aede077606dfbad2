#include "text/grammar_checker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/log.h"
#include "text/textkit_call.h"

namespace ridge::text {
namespace {

using TimePoint = GrammarChecker::TimePoint;
constexpr TimePoint never = TimePoint::max();

enum class Moved { all, ended, late };

bool waits_for(int socket, short events, TimePoint deadline) {
  while (true) {
    int wait_ms = -1;
    if (deadline != never) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0) return false;
      wait_ms = static_cast<int>(left.count());
    }
    pollfd wanted{.fd = socket, .events = events};
    if (::poll(&wanted, 1, wait_ms) > 0) return true;
  }
}

// `move` is send or recv of what is left.
template <typename Move>
Moved move_all(int socket, short events, std::size_t size, TimePoint deadline, Move move) {
  for (std::size_t done = 0; done < size;) {
    if (!waits_for(socket, events, deadline)) return Moved::late;
    const ssize_t moved = move(done, size - done);
    if (moved > 0) {
      done += static_cast<std::size_t>(moved);
    } else if (moved == 0 || (errno != EINTR && errno != EAGAIN)) {
      return Moved::ended;
    }
  }
  return Moved::all;
}

Moved send_frame(int socket, std::string_view content, TimePoint deadline) {
  const uint32_t size = static_cast<uint32_t>(content.size());
  std::string frame(sizeof size, '\0');
  std::memcpy(frame.data(), &size, sizeof size);
  frame += content;
  return move_all(socket, POLLOUT, frame.size(), deadline, [&](std::size_t from, std::size_t count) {
    return ::send(socket, frame.data() + from, count, MSG_NOSIGNAL | MSG_DONTWAIT);
  });
}

Moved receive_frame(int socket, std::string& content, TimePoint deadline) {
  const auto receive = [&](char* bytes, std::size_t size) {
    return move_all(socket, POLLIN, size, deadline, [&](std::size_t from, std::size_t count) {
      return ::recv(socket, bytes + from, count, MSG_DONTWAIT);
    });
  };
  uint32_t size = 0;
  if (const Moved moved = receive(reinterpret_cast<char*>(&size), sizeof size); moved != Moved::all) {
    return moved;
  }
  content.resize(size);
  return receive(content.data(), size);
}

template <typename Number>
void put(std::string& bytes, Number number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// The first bytes as a number, which there are.
template <typename Number>
Number take_number(std::string_view& bytes) {
  RIDGE_ASSERT(bytes.size() >= sizeof(Number));
  Number number;
  std::memcpy(&number, bytes.data(), sizeof number);
  bytes.remove_prefix(sizeof number);
  return number;
}

[[noreturn]] void refuse(const char* for_lack_of) {
  throw Error(ErrorCode::invalid_argument, fmt::format("the grammar is too complex: out of {}", for_lack_of));
}

}  // namespace

class GrammarChecker::Process {
 public:
  explicit Process(const std::vector<std::string>& command) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail(errno);
    socket_ = FileDescriptor(ends[0]);
    const FileDescriptor other(ends[1]);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, other.get(), STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    // Whatever this thread blocks; and Ctrl-C is for this program to act on.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);

    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    char* no_environment[] = {nullptr};
    const int failure =
        posix_spawn(&id_, words[0], &actions, &attributes, words.data(), no_environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) fail(failure);
  }
  ~Process() {
    ::kill(id_, SIGKILL);
    while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  int socket() const { return socket_.get(); }

 private:
  [[noreturn]] static void fail(int error) {
    throw Error(ErrorCode::io, fmt::format("cannot start a process for grammars: {}", std::strerror(error)));
  }

  FileDescriptor socket_;
  pid_t id_ = 0;
};

GrammarChecker::GrammarChecker(std::vector<std::string> command, std::string words)
    : command_(std::move(command)), words_(std::move(words)) {}

GrammarChecker::~GrammarChecker() = default;

std::unique_ptr<GrammarChecker::Process> GrammarChecker::take() {
  const std::lock_guard lock(mutex_);
  return std::move(idle_);
}

void GrammarChecker::check(int32_t kind, std::string_view source, TimePoint deadline) {
  std::string request;
  put(request, kind);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  put(request, static_cast<uint64_t>(std::max<int64_t>(left.count(), 1)));
  request += source;

  std::string answer;
  const auto ask = [&](const Process& process) {
    const Moved sent = send_frame(process.socket(), request, deadline);
    return sent == Moved::all ? receive_frame(process.socket(), answer, deadline) : sent;
  };
  std::unique_ptr<Process> process = take();
  Moved moved = process ? ask(*process) : Moved::ended;
  if (moved == Moved::ended) {  // none, or one that may have been ended before this grammar came
    try {
      process = std::make_unique<Process>(command_);
    } catch (const Error& error) {
      log::warning("{}; grammars are compiled without being tried first", error.message());
      return;
    }
    moved = send_frame(process->socket(), words_, deadline);
    if (moved == Moved::all) moved = ask(*process);
  }
  if (moved == Moved::late) refuse("time");
  if (moved == Moved::ended) {
    log::warning("a process that tries grammars has ended, for lack of memory or as it cannot run");
    refuse("memory");
  }

  std::string_view text = answer;
  const int32_t status = take_number<int32_t>(text);
  if (status != TK_EXHAUSTED) {
    const std::lock_guard lock(mutex_);
    idle_ = std::move(process);
  }
  throw_textkit(status, text);
}

void serve_grammar_checks(int socket) {
  std::string frame;
  if (receive_frame(socket, frame, never) != Moved::all) return;
  tk_grammar_environment* environment = nullptr;
  TextkitBuffer failure;
  const int32_t prepared = tk_grammar_environment_of_words(to_slice(frame), &environment, failure.out());
  check_textkit(prepared, failure);
  while (receive_frame(socket, frame, never) == Moved::all) {
    std::string_view source = frame;
    const int32_t kind = take_number<int32_t>(source);
    const uint64_t limit_ms = take_number<uint64_t>(source);
    tk_matcher* matcher = nullptr;
    TextkitBuffer message;
    std::string answer;
    put(answer, tk_matcher_new(environment, kind, to_slice(source), limit_ms, &matcher, message.out()));
    answer += message.view();
    tk_matcher_free(matcher);
    if (send_frame(socket, answer, never) != Moved::all) return;
  }
}

}  // namespace ridge::text
