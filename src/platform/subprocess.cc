#include "platform/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

extern char** environ;

namespace ridge::platform {
namespace {

constexpr size_t max_output_bytes = 16 * 1024;
constexpr int poll_ms = 100;

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

// The end of an array of words as execve wants it.
std::vector<char*> with_end(std::vector<char*> words) {
  words.push_back(nullptr);
  return words;
}

std::vector<char*> pointers_to(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  return with_end(std::move(pointers));
}

std::string_view name_in(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::vector<char*> environment_for(const ProcessOptions& options) {
  std::vector<char*> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view name = name_in(*entry);
    if (std::ranges::find(options.withheld, name) == options.withheld.end() &&
        std::ranges::find(options.added, name, name_in) == options.added.end()) {
      entries.push_back(*entry);
    }
  }
  for (const std::string& entry : options.added) {
    entries.push_back(const_cast<char*>(entry.c_str()));
  }
  return with_end(std::move(entries));
}

int wait_for(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Collects until the program closes its output; false where it was cancelled.
bool collect(int pipe, std::string& output, const std::function<bool()>& is_cancelled) {
  std::array<char, 4096> chunk;
  while (true) {
    if (is_cancelled && is_cancelled()) return false;
    pollfd wanted{.fd = pipe, .events = POLLIN};
    if (poll(&wanted, 1, poll_ms) <= 0) continue;
    const ssize_t got = read(pipe, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    output.append(chunk.data(), got);
    if (output.size() > max_output_bytes) output.erase(0, output.size() - max_output_bytes);
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& words, const ProcessOptions& options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw Error(ErrorCode::io, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  SpawnActions actions;
  posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(actions.get(), write_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(actions.get(), write_end.get(), STDERR_FILENO);
  if (options.working_folder != nullptr) {
    posix_spawn_file_actions_addfchdir_np(actions.get(), options.working_folder->descriptor());
  }
  const std::vector<char*> arguments = pointers_to(words);
  const std::vector<char*> environment = environment_for(options);

  pid_t process = 0;
  const int failure = posix_spawnp(&process, arguments[0], actions.get(), nullptr, arguments.data(),
                                   environment.data());
  if (failure == ENOENT) return {.was_found = false};
  if (failure != 0) {
    throw Error(ErrorCode::io,
                fmt::format("cannot start {}: {}", words[0], std::strerror(failure)));
  }
  write_end = FileDescriptor();
  ProcessResult result;
  const bool ended = collect(read_end.get(), result.output, options.is_cancelled);
  if (!ended) kill(process, SIGTERM);
  result.exit_code = wait_for(process);
  if (!ended) throw Error(ErrorCode::cancelled, "stopped");
  return result;
}

}  // namespace ridge::platform
