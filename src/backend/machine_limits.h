#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ridge::backend {

// How fast a working set is read that one level of memory holds.
struct ReadLimit {
  std::string level;               // "L2", "L3", "memory"
  uint64_t level_bytes = 0;        // of one such cache, as the system says; 0 for memory
  uint64_t working_set_bytes = 0;  // of all threads together
  int threads = 1;
  double bytes_per_second = 0;
  std::string lacking;  // why it was not measured; empty where it was
};

// How fast an instruction multiplies where its operands are at hand.
struct MultiplyLimit {
  std::string isa;          // that brings it: "avx512_vnni"
  std::string instruction;  // "vpdpbusd"
  std::string operands;     // "f32", "bf16", "i8"
  int threads = 1;
  double flops_per_second = 0;  // a multiply-add being two
  std::string lacking;          // as above
};

// What bounds every kernel of a device on this machine, with one thread and with all.
struct MachineLimits {
  std::vector<ReadLimit> reads;
  std::vector<MultiplyLimit> multiplies;
};

}  // namespace ridge::backend
