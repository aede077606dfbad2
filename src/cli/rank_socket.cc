#include "cli/rank_socket.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace ridge::cli {

namespace {

struct SocketAddress {
  sockaddr_un address{};
  socklen_t length = 0;
};

// The first byte of such a name is 0.
SocketAddress address_of(const std::string& name) {
  SocketAddress result;
  result.address.sun_family = AF_UNIX;
  RIDGE_ASSERT(name.size() + 1 < sizeof(result.address.sun_path));
  std::memcpy(result.address.sun_path + 1, name.data(), name.size());
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return result;
}

[[noreturn]] void fail_socket(const char* what) {
  throw Error(ErrorCode::io, fmt::format("cannot {} a socket for ranks: {}", what,
                                         std::strerror(errno)));
}

FileDescriptor stream_socket() {
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) fail_socket("make");
  return socket;
}

[[noreturn]] void throw_gone() {
  throw Error(ErrorCode::unavailable, "the process at the other end has gone");
}

}  // namespace

void SocketLink::send(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) throw_gone();
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

void SocketLink::receive(std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw_gone();
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

void SocketLink::shut(bool both) const {
  ::shutdown(socket_.get(), both ? SHUT_RDWR : SHUT_WR);
}

FileDescriptor listen_for_ranks(std::string& name) {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) fail_socket("name");
  name = fmt::format("ridge-ranks-{}-{:016x}", ::getpid(), number);
  const SocketAddress at = address_of(name);
  FileDescriptor socket = stream_socket();
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at.address), at.length) != 0) {
    fail_socket("bind");
  }
  if (::listen(socket.get(), SOMAXCONN) != 0) fail_socket("listen on");
  return socket;
}

FileDescriptor connect_to_server(const std::string& name) {
  const SocketAddress at = address_of(name);
  FileDescriptor socket = stream_socket();
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&at.address), at.length) != 0) {
    if (errno == ECONNREFUSED) return {};
    fail_socket("connect");
  }
  if (!is_own_user(socket.get())) {
    throw Error(ErrorCode::permission_denied, "the server of these ranks is another user's");
  }
  return socket;
}

bool is_own_user(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid();
}

}  // namespace ridge::cli
