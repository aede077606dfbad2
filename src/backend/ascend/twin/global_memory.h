#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>

namespace ridge::backend::ascend::twin {

// One allocated range of device memory.
class GlobalRange;

// The device memory (HBM) of one device. Addresses are real addresses of this process that nothing
// may dereference: the pages are mapped without access, so a host that follows a device pointer
// faults, as on the real machine. Ranges are 512-byte aligned and lie apart, so that what runs over
// an end meets no neighbour. New memory is undefined: it reads as poison, and a kernel that reads it
// is reported. May be called from any thread; kernels that run at the same time may share it.
class GlobalMemory {
 public:
  explicit GlobalMemory(uint64_t capacity_bytes);
  ~GlobalMemory();
  GlobalMemory(const GlobalMemory&) = delete;
  GlobalMemory& operator=(const GlobalMemory&) = delete;

  // Throws out_of_memory beyond the capacity, invalid_argument for 0 bytes.
  uint64_t allocate(uint64_t bytes);
  // Throws invalid_argument for what is not the start of a range (freed twice, or never allocated).
  void free(uint64_t address);

  // Copies of the host's side. Throw invalid_argument where the bytes are not all in one range.
  void write(uint64_t address, std::span<const std::byte> from);
  void read(uint64_t address, std::span<std::byte> to) const;  // undefined bytes come as poison
  void fill(uint64_t address, std::byte value, uint64_t bytes);
  void copy(uint64_t to, uint64_t from, uint64_t bytes);  // undefined bytes stay undefined

  uint64_t capacity_bytes() const { return capacity_bytes_; }
  uint64_t used_bytes() const;

  // The range that holds `address`, or nullptr. It lives until `free`.
  GlobalRange* find(uint64_t address) const;

 private:
  GlobalRange& range_of(uint64_t address, uint64_t bytes) const;

  const uint64_t capacity_bytes_;
  uint64_t used_bytes_ = 0;
  mutable std::mutex mutex_;
  std::map<uint64_t, std::unique_ptr<GlobalRange>> ranges_;  // by first address
};

}  // namespace ridge::backend::ascend::twin
