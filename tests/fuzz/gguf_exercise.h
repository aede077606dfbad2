#pragma once

#include <cstddef>
#include <span>

namespace ridge::format {

// Reads a file that may be hostile as far as a loader would: all metadata by every lookup, the
// first row of each tensor. False where it was refused with an Error; anything else that goes wrong
// ends the process, which is what a fuzzer looks for.
bool exercise_gguf(std::span<const std::byte> bytes);

}  // namespace ridge::format
