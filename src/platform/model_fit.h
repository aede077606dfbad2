#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ridge::platform {

// What a machine has room for, in bytes.
struct MachineRoom {
  int64_t memory_bytes = 0;            // that this process may have at most
  int64_t memory_available_bytes = 0;  // of it, that it could take now
  int64_t disk_free_bytes = 0;         // in the store
};

enum class Fit {
  yes,
  tight,  // only once other programs, or other models, give memory back
  no,
};
std::string_view name(Fit fit);

// Whether a model of a size can be used on a machine.
struct ModelFit {
  int64_t needs_bytes = 0;  // of memory: its weights, the KV cache of a short context, activations
  bool fits_memory_now = false;
  bool fits_disk = false;
  Fit fit = Fit::no;
  std::string why;  // where it is not `yes`: what is short
};

// `is_here`: its file is on the disk already.
ModelFit fit_of(int64_t file_bytes, bool is_here, const MachineRoom& room);

}  // namespace ridge::platform
