#include "format/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace ridge::format {

namespace {

[[noreturn]] void throw_errno(const std::filesystem::path& path, const char* doing, int error) {
  const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::not_found : ErrorCode::io;
  throw Error(code, fmt::format("{}: {}: {}", path.string(), doing, std::strerror(error)));
}

int madvise_flag(Access access) {
  switch (access) {
    case Access::sequential:
      return MADV_SEQUENTIAL;
    case Access::random:
      return MADV_RANDOM;
    case Access::will_need:
      return MADV_WILLNEED;
    case Access::done:
      return MADV_DONTNEED;
    case Access::forget:
      return MADV_PAGEOUT;
  }
  return MADV_NORMAL;
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: a pipe where a model is expected must be refused, not waited for.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) throw_errno(path, "cannot open the file", errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) throw_errno(path, "cannot read the file's size", errno);
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::io, fmt::format("{}: is not a regular file", path.string()));
  }
  MappedFile file;
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return file;  // mmap refuses an empty range
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (address == MAP_FAILED) throw_errno(path, "cannot map the file", errno);
  file.bytes_ = {static_cast<const std::byte*>(address), size};
  return file;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::advise(std::span<const std::byte> range, Access access) const {
  if (range.empty()) return;
  RIDGE_ASSERT(range.data() >= bytes_.data() &&
               range.data() + range.size() <= bytes_.data() + bytes_.size());
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  auto begin = static_cast<size_t>(range.data() - bytes_.data());
  size_t end = begin + range.size();
  if (access == Access::done) {
    // A page shared with a neighbour stays: the neighbour may still be in use. The file's last page
    // has no neighbour behind it.
    begin = (begin + page - 1) / page * page;
    if (end != bytes_.size()) end = end / page * page;
    if (begin >= end) return;
  } else {
    begin = begin / page * page;
  }
  // The kernel cuts a request to read ahead down to a few hundred kilobytes, and drops the rest.
  const size_t at_once = access == Access::will_need ? size_t{128} << 10 : end - begin;
  for (; begin < end; begin += at_once) {
    ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, std::min(at_once, end - begin),
              madvise_flag(access));
  }
}

}  // namespace ridge::format
