#include "platform/model_fit.h"

#include <fmt/format.h>

namespace ridge::platform {
namespace {

// Beside the weights: the KV cache of a short context, activations and the program itself.
constexpr int64_t overhead_percent = 15;

std::string gib(int64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1u << 30));
}

}  // namespace

std::string_view name(Fit fit) {
  switch (fit) {
    case Fit::yes:
      return "yes";
    case Fit::tight:
      return "tight";
    case Fit::no:
      break;
  }
  return "no";
}

ModelFit fit_of(int64_t file_bytes, bool is_here, const MachineRoom& room) {
  ModelFit fit;
  fit.needs_bytes = file_bytes + file_bytes / 100 * overhead_percent;
  fit.fits_memory_now = fit.needs_bytes <= room.memory_available_bytes;
  fit.fits_disk = is_here || file_bytes <= room.disk_free_bytes;
  if (fit.needs_bytes > room.memory_bytes) {
    fit.why = fmt::format("it needs about {} of memory, and this machine has {}",
                          gib(fit.needs_bytes), gib(room.memory_bytes));
  } else if (!fit.fits_disk) {
    fit.why = fmt::format("it takes {} of disk, and {} are free", gib(file_bytes),
                          gib(room.disk_free_bytes));
  } else if (!fit.fits_memory_now) {
    fit.fit = Fit::tight;
    fit.why = fmt::format("it needs about {} of memory, of which {} are free now",
                          gib(fit.needs_bytes), gib(room.memory_available_bytes));
  } else {
    fit.fit = Fit::yes;
  }
  return fit;
}

}  // namespace ridge::platform
