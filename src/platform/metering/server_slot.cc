#include "platform/metering/server_slot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "platform/identity/api_key_text.h"

namespace ridge::platform {
namespace {

constexpr int most_servers = 1000;

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw Error(ErrorCode::io,
              fmt::format("cannot keep {}: {}", path.string(), std::strerror(errno)));
}

// What the file holds; made and kept where it holds nothing.
std::string id_in(int file, const std::filesystem::path& path) {
  std::array<char, 64> bytes{};
  const ssize_t size = ::pread(file, bytes.data(), bytes.size(), 0);
  if (size < 0) fail(path);
  if (size > 0) return {bytes.data(), static_cast<std::size_t>(size)};
  const std::string id = new_id("server_");
  if (::pwrite(file, id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()) ||
      ::fdatasync(file) != 0) {
    fail(path);
  }
  return id;
}

}  // namespace

ServerSlot::ServerSlot(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  for (int place = 0; place < most_servers; ++place) {
    const auto path = folder / fmt::format("server-{}.id", place);
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) fail(path);
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) continue;
      fail(path);
    }
    server_id_ = id_in(file.get(), path);
    spool_path_ = folder / fmt::format("server-{}.spool", place);
    lock_ = std::move(file);
    return;
  }
  throw Error(ErrorCode::unavailable, fmt::format("{} has places for {} servers, and all are taken",
                                                  folder.string(), most_servers));
}

}  // namespace ridge::platform
