#include "backend/ascend/twin/global_range.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/error.h"

namespace ridge::backend::ascend::twin {

namespace {

constexpr uint64_t page_bytes = 4096;

std::byte* map(uint64_t bytes, int protection) {
  void* mapped =
      mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("the host has no {} bytes left for the twin's device memory", bytes));
  }
  return static_cast<std::byte*>(mapped);
}

}  // namespace

GlobalRange::GlobalRange(uint64_t bytes)
    : bytes_(bytes), backing_bytes_((bytes + page_bytes - 1) / page_bytes * page_bytes) {
  reserved_bytes_ = backing_bytes_ + 2 * page_bytes;
  data_ = map(backing_bytes_, PROT_READ | PROT_WRITE);
  defined_ = reinterpret_cast<uint8_t*>(map(backing_bytes_, PROT_READ | PROT_WRITE));
  reserved_ = map(reserved_bytes_, PROT_NONE);
  address_ = reinterpret_cast<uint64_t>(reserved_ + page_bytes);
}

GlobalRange::~GlobalRange() {
  munmap(reserved_, reserved_bytes_);
  munmap(defined_, backing_bytes_);
  munmap(data_, backing_bytes_);
}

}  // namespace ridge::backend::ascend::twin
