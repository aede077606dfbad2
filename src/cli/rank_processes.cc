#include "cli/rank_processes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <utility>

#include "base/log.h"
#include "cli/commands.h"
#include "communicator/mpi.h"

extern char** environ;

namespace ridge::cli {

namespace {

constexpr int look_ms = 200;
// A rank that says nothing for so long stands still: each has a thread that does little else.
constexpr std::chrono::seconds longest_silence{6};
constexpr std::chrono::seconds patience_with_mpirun{2};
// From the failure of ranks to the end of this process, at the latest.
constexpr std::chrono::seconds last_moment{7};

class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO);
    // A group of its own: Ctrl-C asks this process to stop, which tells the ranks.
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes_, &defaults);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  pid_t spawn(const std::vector<std::string>& words) const {
    std::vector<char*> pointers;
    for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    pid_t process = 0;
    const int failed =
        posix_spawnp(&process, pointers[0], &actions_, &attributes_, pointers.data(), environ);
    if (failed != 0) {
      throw Error(ErrorCode::io,
                  fmt::format("cannot start {}: {}", words[0], std::strerror(failed)));
    }
    return process;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// mpirun's words before the program's.
std::vector<std::string> mpirun_words(const RankProcesses::Plan& plan) {
  std::vector<std::string> words = {"mpirun", "-n", std::to_string(plan.ranks), "--oversubscribe",
                                    "--bind-to", "none"};
  const auto set = [&](const char* name, const char* value) {
    words.insert(words.end(), {"--mca", name, value});
  };
  if (::geteuid() == 0) words.emplace_back("--allow-run-as-root");
  // Threads of a rank that waits for another leave their processor to it.
  set("mpi_yield_when_idle", "1");
  // Ranks copy through memory that they share; reading each other's is forbidden in containers.
  set("btl_vader_single_copy_mechanism", "none");
  if (plan.hosts.empty()) {
    set("pml", "ob1");
    set("plm", "isolated");  // which looks for no ssh
    set("btl_tcp_if_include", "lo");
    set("oob_tcp_if_include", "lo");
  } else {
    const int hosts = static_cast<int>(plan.hosts.size());
    std::vector<std::string> places;
    for (const std::string& host : plan.hosts) {
      places.push_back(fmt::format("{}:{}", host, (plan.ranks + hosts - 1) / hosts));
    }
    words.insert(words.end(), {"--host", fmt::format("{}", fmt::join(places, ","))});
  }
  words.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  return words;
}

std::string end_text(int status) {
  return WIFSIGNALED(status) ? fmt::format("by signal {}", WTERMSIG(status))
                             : fmt::format("with status {}", WEXITSTATUS(status));
}

}  // namespace

bool has_mpirun() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/mpirun").c_str(), X_OK) == 0) return true;
  }
  return false;
}

RankProcesses::RankProcesses(const Plan& plan) {
  if (!communicator::has_mpi() || !has_mpirun()) {
    throw Error(ErrorCode::unsupported,
                fmt::format("--ranks needs Open MPI, of which {} is not there: {}",
                            has_mpirun() ? "libmpi.so.40" : "mpirun", communicator::mpi_advice));
  }
  listener_ = listen_for_ranks(socket_name_);
  start(plan);
  thread_ = std::thread([this] { watch(); });
  std::unique_lock lock(mutex_);
  news_.wait(lock, [this] { return orders_ || failure_; });
  if (!failure_) return;
  const Error error = *failure_;
  stopping_ = true;
  lock.unlock();
  news_.notify_all();
  thread_.join();
  throw error;
}

void RankProcesses::start(const Plan& plan) {
  std::vector<std::string> words = mpirun_words(plan);
  words.insert(words.end(), {rank_command, "--socket", socket_name_});
  words.insert(words.end(), plan.arguments.begin(), plan.arguments.end());
  log::debug("{}", fmt::join(words, " "));
  mpirun_ = SpawnSettings().spawn(words);
}

RankProcesses::~RankProcesses() {
  close();
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.notify_all();
  thread_.join();
  if (!has_ended(std::chrono::seconds(5))) end_all();
}

void RankProcesses::send(std::span<const std::byte> bytes) {
  try {
    orders_->send(bytes);
  } catch (const Error&) {
    throw_failure();
  }
}

void RankProcesses::receive(std::span<std::byte> bytes) {
  try {
    orders_->receive(bytes);
  } catch (const Error&) {
    throw_failure();
  }
}

// The thread that watches knows more than that the link has broken, or soon will.
void RankProcesses::throw_failure() {
  std::unique_lock lock(mutex_);
  news_.wait_for(lock, std::chrono::seconds(2), [this] { return failure_ || stopping_; });
  if (failure_) throw *failure_;
  throw Error(ErrorCode::unavailable, "the ranks that compute this model have ended");
}

void RankProcesses::close() {
  std::lock_guard lock(mutex_);
  is_closed_ = true;
  if (orders_) orders_->shut(/*both=*/false);
}

std::optional<Error> RankProcesses::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void RankProcesses::on_failure(std::function<void(const Error&)> tell) {
  {
    std::lock_guard lock(mutex_);
    tell_ = std::move(tell);
    if (failure_) tell_(*failure_);
  }
  news_.notify_all();
}

void RankProcesses::watch() {
  looked_ = clock_.now();
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    if (const auto message = look()) return fail(*message);
  }
}

// What has failed, if something has. Waits a moment for news.
std::optional<std::string> RankProcesses::look() {
  std::vector<pollfd> wanted = {{.fd = listener_.get(), .events = POLLIN}};
  for (const Watched& each : watched_) wanted.push_back({.fd = each.socket.get(), .events = POLLIN});
  ::poll(wanted.data(), wanted.size(), look_ms);
  const Clock::TimePoint now = clock_.now();
  // Who was held up itself, with the whole machine perhaps, has no right to complain of silence.
  const bool was_held_up = now - looked_ > std::chrono::seconds(2);
  looked_ = now;
  std::vector<std::string> ended;
  for (size_t i = 0; i < watched_.size(); ++i) {
    if (wanted[i + 1].revents == 0) continue;
    std::array<char, 64> bytes;
    const ssize_t got = ::recv(watched_[i].socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) watched_[i].heard = now;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
      ended.push_back(fmt::format("rank {} (process {})", watched_[i].rank, watched_[i].process));
      watched_[i].process = 0;
    }
  }
  std::erase_if(watched_, [](const Watched& each) { return each.process == 0; });
  if (wanted.front().revents != 0) accept();
  const bool mpirun_has_ended = has_ended(Clock::Duration::zero());
  {
    std::lock_guard lock(mutex_);
    if (is_closed_) return std::nullopt;
  }
  if (!ended.empty()) return fmt::format("{} ended unexpectedly", fmt::join(ended, " and "));
  for (Watched& each : watched_) {
    if (was_held_up) each.heard = now;
    if (now - each.heard > longest_silence) {
      return fmt::format("rank {} (process {}) has stood still for {} s", each.rank, each.process,
                         longest_silence.count());
    }
  }
  if (mpirun_has_ended) {
    return fmt::format("mpirun ended {}; what it printed says why", end_text(*mpirun_status_));
  }
  return std::nullopt;
}

void RankProcesses::accept() {
  FileDescriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket || !is_own_user(socket.get())) return;
  RankHello hello;
  // Sent with the connection; who sends half of it and waits is no rank.
  const timeval patience{.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (::recv(socket.get(), &hello, sizeof(hello), MSG_WAITALL) != sizeof(hello)) return;
  const timeval none{};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
  if (hello.kind == RankHello::Kind::watch) {
    watched_.push_back({std::move(socket), hello.rank, hello.process, clock_.now()});
    return;
  }
  {
    std::lock_guard lock(mutex_);
    if (orders_) return;
    orders_.emplace(std::move(socket));
  }
  news_.notify_all();
}

void RankProcesses::fail(const std::string& message) {
  const Error error(ErrorCode::unavailable,
                    fmt::format("{}; the model cannot be computed any more", message));
  {
    std::lock_guard lock(mutex_);
    failure_ = error;
    if (orders_) orders_->shut(/*both=*/true);
    if (tell_) tell_(error);  // under the lock, so that on_failure() can take it back
  }
  news_.notify_all();
  end_all();
  std::unique_lock lock(mutex_);
  // Before there is somebody to tell, who starts the ranks hears of it.
  news_.wait(lock, [this] { return stopping_ || tell_; });
  if (news_.wait_for(lock, last_moment, [this] { return stopping_; })) return;
  log::error("{}; what goes on is cut off", error.message());
  std::_Exit(static_cast<int>(ExitCode::failure));
}

// Those of this machine at once; mpirun ends those of others.
void RankProcesses::end_all() {
  for (const Watched& each : watched_) ::kill(each.process, SIGKILL);
  watched_.clear();
  if (mpirun_status_) return;
  ::kill(mpirun_, SIGTERM);
  if (has_ended(patience_with_mpirun)) return;
  ::kill(mpirun_, SIGKILL);
  has_ended(patience_with_mpirun);
}

// Whether mpirun has; of one thread at a time.
bool RankProcesses::has_ended(Clock::Duration within) {
  const Clock::TimePoint end = clock_.now() + within;
  while (!mpirun_status_) {
    int status = 0;
    const pid_t got = ::waitpid(mpirun_, &status, WNOHANG);
    if (got == mpirun_) mpirun_status_ = status;
    if (mpirun_status_ || clock_.now() >= end) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return mpirun_status_.has_value();
}

}  // namespace ridge::cli
