#include "format/reserved_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/error.h"

namespace ridge::format {

ReservedMemory::ReservedMemory(size_t size) {
  if (size == 0) return;  // mmap refuses an empty range
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, /*fd=*/-1, /*offset=*/0);
  if (address == MAP_FAILED) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("the system gives no range of {} bytes of addresses", size));
  }
  bytes_ = {static_cast<std::byte*>(address), size};
}

ReservedMemory::~ReservedMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

ReservedMemory::ReservedMemory(ReservedMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})) {}

ReservedMemory& ReservedMemory::operator=(ReservedMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

void ReservedMemory::forget(size_t begin, size_t end) const {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  begin = (begin + page - 1) / page * page;
  if (end != bytes_.size()) end = end / page * page;
  if (begin >= end) return;
  ::madvise(bytes_.data() + begin, end - begin, MADV_DONTNEED);
}

}  // namespace ridge::format
