#pragma once

#include <cstddef>
#include <cstdint>

namespace ridge::backend::ascend::twin {

// What undefined memory holds.
inline constexpr std::byte poison{0xa5};

// Pages of this process.
class Mapping {
 public:
  enum class Access : uint8_t { none, read_write };
  Mapping(uint64_t bytes, Access access);  // throws out_of_memory
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  uint64_t bytes_;
};

// An allocation of device memory: an address that may not be dereferenced, and the bytes behind it.
class GlobalRange {
 public:
  explicit GlobalRange(uint64_t bytes);  // throws out_of_memory where the host has none left

  uint64_t address() const { return address_; }
  uint64_t bytes() const { return bytes_; }
  std::byte* data_at(uint64_t address) { return data_.data() + (address - address_); }
  // One byte for each: 1 where something was written.
  uint8_t* defined_at(uint64_t address) {
    return reinterpret_cast<uint8_t*>(defined_.data()) + (address - address_);
  }

 private:
  uint64_t bytes_;
  Mapping data_;
  Mapping defined_;
  Mapping reserved_;  // the addresses, with a page on each side
  uint64_t address_;
};

}  // namespace ridge::backend::ascend::twin
