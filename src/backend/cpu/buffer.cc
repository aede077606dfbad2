#include "backend/cpu/buffer.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

constexpr size_t huge_page_bytes = size_t{2} << 20;

}  // namespace

Memory::Memory(size_t bytes, HugePages pages) : bytes_(bytes) {
  const size_t alignment = bytes >= huge_page_bytes ? huge_page_bytes : 64;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_ = rounded < bytes ? nullptr
                          : static_cast<std::byte*>(std::aligned_alloc(
                                alignment, rounded == 0 ? alignment : rounded));
  if (data_ == nullptr) {
    throw Error(ErrorCode::out_of_memory, fmt::format("cannot allocate {} bytes", bytes));
  }
  // Advice only: without huge pages everything works, a little slower.
  if (alignment == huge_page_bytes) {
    madvise(data_, rounded, pages == HugePages::asked ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  std::memset(data_, 0, bytes);
}

Memory::~Memory() { std::free(data_); }

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace ridge::backend::cpu
