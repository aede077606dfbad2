#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/file_descriptor.h"

// Sockets between a server and its ranks on this machine. They have names that no file system knows,
// so that nothing is left behind, and are open to this user alone.
namespace ridge::cli {

// What a rank says first on each connection.
struct RankHello {
  enum class Kind : uint32_t {
    orders,  // of rank 0: what RankLink carries
    watch,   // of each rank: a byte a second
  };
  Kind kind = Kind::watch;
  int32_t rank = 0;
  int32_t process = 0;
};

// A stream of bytes each way. Throws unavailable where the other end has gone.
class SocketLink {
 public:
  explicit SocketLink(FileDescriptor socket) : socket_(std::move(socket)) {}
  void send(std::span<const std::byte> bytes) const;
  void receive(std::span<std::byte> bytes) const;
  // Ends what is sent; `both`: and what is received, also for who waits for it now.
  void shut(bool both) const;

 private:
  FileDescriptor socket_;
};

// Under a new name, which is put into `name`. Throws io.
FileDescriptor listen_for_ranks(std::string& name);
// No socket where there is nothing of this name, as on another machine. Throws io, and
// permission_denied where another user listens there.
FileDescriptor connect_to_server(const std::string& name);
// Whether the process at the other end is this user's.
bool is_own_user(int socket);

}  // namespace ridge::cli
