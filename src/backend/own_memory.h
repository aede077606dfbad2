#pragma once

#include <cstdint>

namespace ridge::backend {

// What a Device is as well that has memory of its own, beside the machine's.
class OwnMemory {
 public:
  virtual ~OwnMemory() = default;
  // For weights, caches and programs to come.
  virtual uint64_t free_memory_bytes() const = 0;
};

}  // namespace ridge::backend
