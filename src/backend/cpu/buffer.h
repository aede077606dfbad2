#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "backend/device.h"

namespace ridge::backend::cpu {

enum class HugePages : uint8_t { asked, refused };

// Memory from the system in whole pages, aligned to 2 MiB where it is large, with huge pages asked
// for: weights are read end to end at every step, and small pages cost a tenth of that.
class Memory {
 public:
  Memory() = default;
  // Zeroed. Throws out_of_memory.
  explicit Memory(size_t bytes, HugePages pages = HugePages::asked);
  Memory(Memory&&) noexcept = default;
  Memory& operator=(Memory&&) noexcept = default;

  std::byte* data() const { return data_.get(); }
  size_t size_bytes() const { return bytes_; }

 private:
  friend class MemoryPool;
  Memory(std::shared_ptr<std::byte> data, size_t bytes);

  std::shared_ptr<std::byte> data_;  // the owner may be a larger block
  size_t bytes_ = 0;
};

// Pieces of large blocks, for memory that has no huge page to itself and is read as often as what
// has: from small pages, a weight of 1 or 2 MiB takes up to half as long again.
class MemoryPool {
 public:
  explicit MemoryPool(HugePages pages) : pages_(pages) {}

  // Aligned to 64 bytes, and independent of the pool's life; a block goes with its last piece. Not
  // zeroed: a page is cleared by whoever first writes to it, which had better be all threads and
  // not one. May be called by several threads. Throws out_of_memory.
  Memory take(size_t bytes);

 private:
  std::mutex mutex_;
  const HugePages pages_;
  std::shared_ptr<std::byte> block_;  // where pieces come from at present
  size_t used_ = 0;                   // of it
};

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : memory_(bytes), bytes_(bytes) {}
  // A view of memory that somebody else owns.
  CpuBuffer(std::byte* data, size_t bytes) : view_(data), bytes_(bytes) {}
  size_t size_bytes() const override { return bytes_; }
  std::byte* host_data() override { return data(); }
  const std::byte* host_data() const override { return data(); }
  std::byte* data() const { return view_ != nullptr ? view_ : memory_.data(); }

 private:
  Memory memory_;
  std::byte* view_ = nullptr;
  size_t bytes_;
};

}  // namespace ridge::backend::cpu
