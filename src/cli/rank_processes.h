#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/file_descriptor.h"
#include "cli/rank_socket.h"
#include "engine/rank_link.h"

namespace ridge::cli {

// Whether mpirun is found in PATH.
bool has_mpirun();

// The ranks of one model, processes that mpirun has started and this one watches: one that ends, or
// stands still, ends all of them, and all of them end with this process.
class RankProcesses final : public engine::RankLink {
 public:
  struct Plan {
    int ranks = 1;
    std::vector<std::string> hosts;      // of mpirun, this machine's first; empty: this machine
    std::vector<std::string> arguments;  // of `ridge rank-worker`, without the socket
  };

  // Starts them, and returns when rank 0 has come. Throws unsupported where Open MPI is missing, and
  // unavailable where they end at once.
  explicit RankProcesses(const Plan& plan);
  // Ends them.
  ~RankProcesses() override;

  void send(std::span<const std::byte> bytes) override;
  void receive(std::span<std::byte> bytes) override;
  void close() override;
  // What has ended them, from then on. From any thread.
  std::optional<Error> failure() const;

  // Called once they have failed, on a thread of its own, or now where they have; it must be brief and
  // call nothing of this. Not called any more once another has taken its place. This process ends with
  // status 1 where the object is still there some seconds later, whatever else goes on in it.
  void on_failure(std::function<void(const Error&)> tell);

 private:
  // A rank of this machine, which says each second that it is there.
  struct Watched {
    FileDescriptor socket;
    int rank = 0;
    pid_t process = 0;
    Clock::TimePoint heard{};
  };

  void start(const Plan& plan);
  void watch();
  void accept();
  std::optional<std::string> look();
  void fail(const std::string& message);
  void end_all();
  bool has_ended(Clock::Duration within);
  [[noreturn]] void throw_failure();

  const SteadyClock clock_;
  FileDescriptor listener_;
  std::string socket_name_;
  pid_t mpirun_ = 0;
  std::optional<int> mpirun_status_;  // as waitpid gives it, once it has ended
  std::vector<Watched> watched_;      // of the thread that watches
  Clock::TimePoint looked_{};         // likewise: when it last did

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::optional<SocketLink> orders_;  // to rank 0, once it has come
  std::optional<Error> failure_;
  std::function<void(const Error&)> tell_;
  bool is_closed_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace ridge::cli
