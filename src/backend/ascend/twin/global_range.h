#pragma once

#include <cstddef>
#include <cstdint>

namespace ridge::backend::ascend::twin {

// What undefined memory holds.
inline constexpr std::byte poison{0xa5};

// An allocation of device memory: an address that may not be dereferenced, and the bytes behind it.
class GlobalRange {
 public:
  explicit GlobalRange(uint64_t bytes);  // throws out_of_memory where the host has none left
  ~GlobalRange();
  GlobalRange(const GlobalRange&) = delete;
  GlobalRange& operator=(const GlobalRange&) = delete;

  uint64_t address() const { return address_; }
  uint64_t bytes() const { return bytes_; }
  std::byte* data_at(uint64_t address) { return data_ + (address - address_); }
  // One byte for each: 1 where something was written.
  uint8_t* defined_at(uint64_t address) { return defined_ + (address - address_); }

 private:
  uint64_t bytes_;
  uint64_t reserved_bytes_;  // whole pages, one without use on each side included
  uint64_t backing_bytes_;
  std::byte* reserved_;
  uint64_t address_;
  std::byte* data_;
  uint8_t* defined_;
};

}  // namespace ridge::backend::ascend::twin
