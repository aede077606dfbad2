#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "engine/step_runner.h"
#include "kvcache/prefix_cache.h"

namespace ridge::engine {

struct SpillOptions {
  uint64_t budget_bytes = 0;     // 0: nothing is kept
  std::filesystem::path folder;  // "": in memory, else in a file there that has no name
};

// Keeps blocks' content as the options say; null where they allow less than one block. The runner
// must outlive it. Throws io where the file cannot be made.
std::unique_ptr<kvcache::SpillStore> open_spill(const SpillOptions& options, StepRunner& runner);

}  // namespace ridge::engine
