#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace ridge::platform {

// A failure of this machine's disk. Another source of the same file would meet it as well.
class DiskError : public Error {
 public:
  explicit DiskError(const std::string& message) : Error(ErrorCode::io, message) {}
};

struct FileStatus {
  int64_t size_bytes;
  int64_t mtime_ns;  // since 1970
  uint64_t inode;
};

// Throws DiskError.
FileStatus status_of(int descriptor);
void write_all(int descriptor, std::span<const std::byte> bytes, std::string_view file_name);
void sync(int descriptor, std::string_view file_name);
// The whole file. Throws invalid_file above `limit_bytes`.
std::string read_all(int descriptor, int64_t limit_bytes, std::string_view file_name);

// True for a name that can stand for one file in a folder: 1 to 255 bytes, no '/', no control
// character, not "." or "..".
bool is_file_name(std::string_view name);

// A folder, held open. Everything in it is reached by one validated file name relative to the open
// folder and never through a symbolic link, so that no name can lead out of it.
class Folder {
 public:
  // Creates the folder and its parents where missing. The path itself may hold symbolic links.
  static Folder open_path(const std::filesystem::path& path);
  // A folder inside this one, created where missing.
  Folder open_folder(std::string_view name) const;

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return descriptor_.get(); }

  // `flags` as of open(2); O_CLOEXEC and O_NOFOLLOW are added. An empty descriptor where there is
  // no such file and O_CREAT is not among them. Throws DiskError on any other failure.
  FileDescriptor open(std::string_view name, int flags, mode_t mode = 0644) const;
  std::optional<FileStatus> status(
      std::string_view name) const;  // of regular files; nullopt for others
  // Moves a file here to another folder of the same file system, over what is there.
  void rename(std::string_view name, const Folder& to, std::string_view new_name) const;
  void link_symbolic(const std::string& target, std::string_view name) const;  // replaces
  // False where there was no such file.
  bool remove(std::string_view name) const;
  bool remove_folder(std::string_view name) const;  // with all that it holds
  std::vector<std::string> list() const;            // sorted; without "." and ".."
  // Makes created, renamed and removed names durable.
  void sync() const;

 private:
  Folder(FileDescriptor descriptor, std::filesystem::path path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}
  [[noreturn]] void fail(std::string_view verb, std::string_view name) const;

  FileDescriptor descriptor_;
  std::filesystem::path path_;
};

// An exclusive lock between processes, held while the object lives; the lock file goes with it.
class FileLock {
 public:
  // nullopt where another process (or another FileLock of this one) holds it.
  static std::optional<FileLock> try_acquire(const Folder& folder, const std::string& name);

  FileLock(FileLock&&) noexcept = default;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  FileLock(const Folder& folder, std::string name, FileDescriptor file)
      : folder_(&folder), name_(std::move(name)), file_(std::move(file)) {}
  const Folder* folder_;
  std::string name_;
  FileDescriptor file_;
};

}  // namespace ridge::platform
