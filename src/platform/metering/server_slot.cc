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

std::filesystem::path file_of(const std::filesystem::path& folder, int place,
                              std::string_view kind) {
  return folder / fmt::format("server-{}.{}", place, kind);
}

}  // namespace

ServerSlot::ServerSlot(FileDescriptor lock, const std::filesystem::path& folder, int place)
    : lock_(std::move(lock)),
      server_id_(id_in(lock_.get(), file_of(folder, place, "id"))),
      spool_path_(file_of(folder, place, "spool")) {}

std::optional<ServerSlot> ServerSlot::take(const std::filesystem::path& folder, int place,
                                           bool makes_it) {
  const auto path = file_of(folder, place, "id");
  const int flags = O_RDWR | O_CLOEXEC | (makes_it ? O_CREAT : 0);
  FileDescriptor file(::open(path.c_str(), flags, 0600));
  if (!file && !makes_it && errno == ENOENT) return std::nullopt;
  if (!file) fail(path);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
    return ServerSlot(std::move(file), folder, place);
  }
  if (errno != EWOULDBLOCK) fail(path);
  return std::nullopt;
}

ServerSlot::ServerSlot(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  for (int place = 0; place < most_servers; ++place) {
    if (auto taken = take(folder, place, /*makes_it=*/true)) {
      *this = std::move(*taken);
      return;
    }
  }
  throw Error(ErrorCode::unavailable, fmt::format("{} has places for {} servers, and all are taken",
                                                  folder.string(), most_servers));
}

std::vector<ServerSlot> ServerSlot::left_behind(const std::filesystem::path& folder) {
  std::vector<ServerSlot> left;
  for (int place = 0; place < most_servers; ++place) {
    if (auto taken = take(folder, place, /*makes_it=*/false)) left.push_back(std::move(*taken));
  }
  return left;
}

}  // namespace ridge::platform
