#pragma once

#include <cstddef>
#include <span>

namespace ridge::format {

// A range of addresses that takes memory only where it is written: zeros until then.
class ReservedMemory {
 public:
  // Throws out_of_memory where the system has no such range left.
  explicit ReservedMemory(size_t size);
  ~ReservedMemory();
  ReservedMemory(ReservedMemory&& other) noexcept;
  ReservedMemory& operator=(ReservedMemory&& other) noexcept;
  ReservedMemory(const ReservedMemory&) = delete;
  ReservedMemory& operator=(const ReservedMemory&) = delete;

  // Page-aligned; of the size that was asked for.
  std::span<std::byte> bytes() const { return bytes_; }

  // Gives back the memory of all pages that lie wholly in [begin, end): they are zeros again. The
  // last page counts as whole.
  void forget(size_t begin, size_t end) const;

 private:
  std::span<std::byte> bytes_;
};

}  // namespace ridge::format
