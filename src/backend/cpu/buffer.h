#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/device.h"

namespace ridge::backend::cpu {

enum class HugePages : uint8_t { asked, refused };

// Zeroed memory from the system in whole pages, aligned to 2 MiB where it is large, with huge pages
// asked for: weights are read end to end at every step, and small pages cost a tenth of that.
class Memory {
 public:
  Memory() = default;
  // Throws out_of_memory.
  explicit Memory(size_t bytes, HugePages pages = HugePages::asked);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : memory_(bytes), bytes_(bytes) {}
  // A view of memory that somebody else owns.
  CpuBuffer(std::byte* data, size_t bytes) : view_(data), bytes_(bytes) {}
  size_t size_bytes() const override { return bytes_; }
  std::byte* host_data() override { return data(); }
  std::byte* data() const { return view_ != nullptr ? view_ : memory_.data(); }

 private:
  Memory memory_;
  std::byte* view_ = nullptr;
  size_t bytes_;
};

}  // namespace ridge::backend::cpu
