#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/rank_socket.h"
#include "communicator/mpi.h"
#include "engine/rank_link.h"
#include "engine/rank_worker.h"

namespace ridge::cli {
namespace {

// Rank 0's link to the server.
class ServerLink final : public engine::RankLink {
 public:
  explicit ServerLink(FileDescriptor socket) : socket_(std::move(socket)) {}
  void send(std::span<const std::byte> bytes) override { socket_.send(bytes); }
  void receive(std::span<std::byte> bytes) override { socket_.receive(bytes); }
  void close() override { socket_.shut(/*both=*/false); }

 private:
  SocketLink socket_;
};

FileDescriptor say_hello(const std::string& server, RankHello::Kind kind, int rank) {
  FileDescriptor socket = connect_to_server(server);
  if (!socket) return socket;
  const RankHello hello{kind, rank, ::getpid()};
  ::send(socket.get(), &hello, sizeof(hello), MSG_NOSIGNAL);
  return socket;
}

// Says each second that this process is there, and ends it where the server is not, whatever it does.
class Heartbeat {
 public:
  explicit Heartbeat(FileDescriptor socket) : socket_(std::move(socket)) {
    if (socket_) thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  ~Heartbeat() {
    if (!socket_) return;
    thread_.request_stop();
    ::shutdown(socket_.get(), SHUT_RDWR);  // wakes it
  }

 private:
  void run(const std::stop_token& stop) const {
    while (!stop.stop_requested()) {
      pollfd wanted{.fd = socket_.get(), .events = POLLIN};  // at the end alone: nothing is sent here
      if (::poll(&wanted, 1, /*ms=*/1000) > 0 && !stop.stop_requested()) {
        std::_Exit(static_cast<int>(ExitCode::failure));
      }
      const char byte = 0;
      if (::send(socket_.get(), &byte, 1, MSG_NOSIGNAL) < 0 && !stop.stop_requested()) {
        std::_Exit(static_cast<int>(ExitCode::failure));
      }
    }
  }

  FileDescriptor socket_;
  std::jthread thread_;
};

// What mpirun says before MPI has begun, so that the server knows of this process from the start on.
int rank_of_environment() {
  const char* text = std::getenv("OMPI_COMM_WORLD_RANK");
  if (text == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'ridge {}' is for mpirun to start, as 'ridge serve --ranks N' has it do",
                            rank_command));
  }
  return std::atoi(text);
}

struct RankOptions {
  std::string model;
  std::string socket;
  DeviceChoice device;
  bool guesses = false;
  bool crowded = false;
  std::string log_level = "info";
};

void compute_as_rank(const RankOptions& options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // with mpirun, where that is killed
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  log::set_level(log::level_from_name(options.log_level));
  const int rank = rank_of_environment();
  const Heartbeat heartbeat(say_hello(options.socket, RankHello::Kind::watch, rank));
  const auto group = communicator::join_mpi();
  std::optional<ServerLink> server;
  if (group->rank() == 0) {
    FileDescriptor socket = say_hello(options.socket, RankHello::Kind::orders, 0);
    if (!socket) {
      throw Error(ErrorCode::unavailable,
                  "rank 0 must be on the machine of its server: name that first in --hosts");
    }
    server.emplace(std::move(socket));
  }
  backend::DeviceOptions device = to_device_options(options.device);
  device.threads_spin = !options.crowded;
  engine::serve_rank(options.model,
                     {.mixed_precision = mixed_precision(options.device.precision),
                      .guesses = options.guesses},
                     options.device.device, device, *group, server ? &*server : nullptr);
}

}  // namespace

int run_as_rank(int argc, char** argv) {
  RankOptions options;
  CLI::App app{"One rank of 'ridge serve --ranks N', started by mpirun", rank_command};
  app.add_option("MODEL", options.model)->required();
  app.add_option("--socket", options.socket)->required();
  app.add_flag("--guesses", options.guesses);
  app.add_flag("--crowded", options.crowded);
  app.add_option("--log-level", options.log_level);
  add_device_options(app, options.device);
  try {
    app.parse(argc - 1, argv + 1);
    compute_as_rank(options);
    return static_cast<int>(ExitCode::ok);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "ridge {}: {}\n", rank_command, error.what());
  }
  // Without MPI's farewell, so that mpirun ends the others.
  std::_Exit(static_cast<int>(ExitCode::failure));
}

}  // namespace ridge::cli
