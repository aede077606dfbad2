#include "backend/cpu/buffer.h"

#include <fmt/format.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

constexpr size_t huge_page_bytes = size_t{2} << 20;
// Of a pool. What is not taken costs no memory, but for a part of a huge page.
constexpr size_t block_bytes = size_t{32} << 20;
// Larger pieces would leave too much of a block behind, and their last huge page is little of them.
constexpr size_t most_piece_bytes = block_bytes / 4;

size_t rounded_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Not zeroed.
std::shared_ptr<std::byte> allocate(size_t bytes, HugePages pages) {
  const size_t alignment = bytes >= huge_page_bytes ? huge_page_bytes : 64;
  const size_t rounded = rounded_up(std::max<size_t>(bytes, 1), alignment);
  auto* data = rounded < bytes ? nullptr
                               : static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory, fmt::format("cannot allocate {} bytes", bytes));
  }
  // Advice only: without huge pages everything works, a little slower.
  if (alignment == huge_page_bytes) {
    madvise(data, rounded, pages == HugePages::asked ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  return {data, [](std::byte* memory) { std::free(memory); }};
}

}  // namespace

Memory::Memory(size_t bytes, HugePages pages) : Memory(allocate(bytes, pages), bytes) {
  std::memset(data_.get(), 0, bytes);
}

Memory::Memory(std::shared_ptr<std::byte> data, size_t bytes)
    : data_(std::move(data)), bytes_(bytes) {}

Memory MemoryPool::take(size_t bytes) {
  if (bytes > most_piece_bytes) return Memory(allocate(bytes, pages_), bytes);
  const std::lock_guard lock(mutex_);
  const size_t rounded = rounded_up(bytes, 64);
  if (block_ == nullptr || rounded > block_bytes - used_) {
    block_ = allocate(block_bytes, pages_);
    used_ = 0;
    ASAN_POISON_MEMORY_REGION(block_.get(), block_bytes);
  }
  std::byte* piece = block_.get() + used_;
  used_ += rounded;
  ASAN_UNPOISON_MEMORY_REGION(piece, bytes);
  return Memory({block_, piece}, bytes);
}

}  // namespace ridge::backend::cpu
