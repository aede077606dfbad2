#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace ridge::format {

// How a range of a mapped file will be used; advice to the kernel's page cache.
enum class Access {
  sequential,  // read ahead far, drop behind
  random,      // do not read ahead
  will_need,   // start reading it now
  done,        // its pages may go; a later read brings them back from the file
  forget,      // likewise, and the system had better drop what it has of them in memory
};

// A whole file mapped read-only. A file that another process shortens while it is mapped raises
// SIGBUS on access; model files are therefore replaced by rename, never rewritten in place.
class MappedFile {
 public:
  // Throws not_found, or io where it is no regular file or cannot be read.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Valid while this object lives; page-aligned, empty for an empty file.
  std::span<const std::byte> bytes() const { return bytes_; }

  // Best effort, for whole pages: `done` covers only pages that lie wholly inside `range`, the
  // others every page that it touches. `range` must lie within bytes().
  void advise(std::span<const std::byte> range, Access access) const;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace ridge::format
