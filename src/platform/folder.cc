#include "platform/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

namespace ridge::platform {
namespace {

FileStatus status_from(const struct stat& status) {
  const int64_t ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return {status.st_size, ns, status.st_ino};
}

[[noreturn]] void fail_file(std::string_view verb, std::string_view file_name) {
  std::string_view hint;
  if (errno == ENOSPC || errno == EDQUOT)
    hint = " (the disk is full; free some space and try again)";
  if (errno == EFBIG) hint = " (a limit on file sizes is in force)";
  throw DiskError(fmt::format("cannot {} {}: {}{}", verb, file_name, std::strerror(errno), hint));
}

}  // namespace

FileStatus status_of(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) fail_file("look at", "an open file");
  return status_from(status);
}

void write_all(int descriptor, std::span<const std::byte> bytes, std::string_view file_name) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_file("write", file_name);
    bytes = bytes.subspan(written);
  }
}

void sync(int descriptor, std::string_view file_name) {
  if (fsync(descriptor) != 0) fail_file("sync", file_name);
}

std::string read_all(int descriptor, int64_t limit_bytes, std::string_view file_name) {
  std::string text;
  char chunk[4096];
  while (true) {
    const ssize_t got = read(descriptor, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", file_name);
    if (got == 0) return text;
    text.append(chunk, got);
    if (static_cast<int64_t>(text.size()) > limit_bytes) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} is larger than {} bytes", file_name, limit_bytes));
    }
  }
}

bool is_file_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char letter) {
    return letter != '/' && static_cast<unsigned char>(letter) >= 0x20 && letter != 0x7f;
  });
}

void Folder::fail(std::string_view verb, std::string_view name) const {
  fail_file(verb, (path_ / name).string());
}

Folder Folder::open_path(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);  // what matters is whether it opens
  FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor) fail_file("open the folder", path.string());
  return Folder(std::move(descriptor), std::filesystem::absolute(path));
}

Folder Folder::open_folder(std::string_view name) const {
  RIDGE_ASSERT(is_file_name(name));
  const std::string text(name);
  // A read-only store still opens: a failure to create shows when the folder is not there.
  mkdirat(descriptor_.get(), text.c_str(), 0755);
  FileDescriptor descriptor(
      openat(descriptor_.get(), text.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!descriptor) fail("open the folder", name);
  return Folder(std::move(descriptor), path_ / name);
}

FileDescriptor Folder::open(std::string_view name, int flags, mode_t mode) const {
  RIDGE_ASSERT(is_file_name(name));
  FileDescriptor file(
      openat(descriptor_.get(), std::string(name).c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file && !(errno == ENOENT && (flags & O_CREAT) == 0)) fail("open", name);
  return file;
}

std::optional<FileStatus> Folder::status(std::string_view name) const {
  RIDGE_ASSERT(is_file_name(name));
  struct stat status {};
  if (fstatat(descriptor_.get(), std::string(name).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return std::nullopt;
    fail("look at", name);
  }
  if (!S_ISREG(status.st_mode)) return std::nullopt;
  return status_from(status);
}

void Folder::rename(std::string_view name, const Folder& to, std::string_view new_name) const {
  RIDGE_ASSERT(is_file_name(name) && is_file_name(new_name));
  if (renameat(descriptor_.get(), std::string(name).c_str(), to.descriptor_.get(),
               std::string(new_name).c_str()) != 0) {
    fail("rename", name);
  }
}

void Folder::link_symbolic(const std::string& target, std::string_view name) const {
  remove(name);
  if (symlinkat(target.c_str(), descriptor_.get(), std::string(name).c_str()) != 0) {
    fail("link", name);
  }
}

bool Folder::remove(std::string_view name) const {
  RIDGE_ASSERT(is_file_name(name));
  if (unlinkat(descriptor_.get(), std::string(name).c_str(), 0) == 0) return true;
  if (errno != ENOENT) fail("remove", name);
  return false;
}

bool Folder::remove_folder(std::string_view name) const {
  RIDGE_ASSERT(is_file_name(name));
  std::error_code failure;
  const auto removed = std::filesystem::remove_all(path_ / name, failure);
  if (failure)
    throw DiskError(
        fmt::format("cannot remove {}: {}", (path_ / name).string(), failure.message()));
  return removed > 0;
}

std::vector<std::string> Folder::list() const {
  // A descriptor of its own: reading moves the position that a copy would share.
  const int copy = openat(descriptor_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(copy < 0 ? nullptr : fdopendir(copy), closedir);
  if (stream == nullptr) fail("list", ".");
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Folder::sync() const {
  if (fsync(descriptor_.get()) != 0) fail("sync", ".");
}

std::optional<FileLock> FileLock::try_acquire(const Folder& folder, const std::string& name) {
  while (true) {
    FileDescriptor file = folder.open(name, O_RDWR | O_CREAT);
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno == EWOULDBLOCK) return std::nullopt;
      fail_file("lock", (folder.path() / name).string());
    }
    // The holder before us may have removed the name between our open and our lock.
    const auto named = folder.status(name);
    if (named && named->inode == status_of(file.get()).inode) {
      return FileLock(folder, name, std::move(file));
    }
  }
}

FileLock::~FileLock() {
  if (!file_) return;
  // Removed before it is unlocked, so that the next holder creates a lock of its own.
  unlinkat(folder_->descriptor(), name_.c_str(), 0);
}

}  // namespace ridge::platform
