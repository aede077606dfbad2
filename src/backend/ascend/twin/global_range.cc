#include "backend/ascend/twin/global_range.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/error.h"

namespace ridge::backend::ascend::twin {

namespace {
constexpr uint64_t page_bytes = 4096;
}  // namespace

Mapping::Mapping(uint64_t bytes, Access access) : bytes_(bytes) {
  const int protection = access == Access::none ? PROT_NONE : PROT_READ | PROT_WRITE;
  void* mapped =
      mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("the host has no {} bytes left for the twin's device memory", bytes));
  }
  data_ = static_cast<std::byte*>(mapped);
}

Mapping::~Mapping() { munmap(data_, bytes_); }

GlobalRange::GlobalRange(uint64_t bytes)
    : bytes_(bytes),
      data_(bytes, Mapping::Access::read_write),
      defined_(bytes, Mapping::Access::read_write),
      reserved_(bytes + 3 * page_bytes, Mapping::Access::none),
      address_(reinterpret_cast<uint64_t>(reserved_.data()) + page_bytes) {}

}  // namespace ridge::backend::ascend::twin
