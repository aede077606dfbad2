#pragma once

#include <cstddef>
#include <span>

namespace ridge::format {

// As exercise_gguf, of a safetensors file.
bool exercise_safetensors(std::span<const std::byte> bytes);

}  // namespace ridge::format
