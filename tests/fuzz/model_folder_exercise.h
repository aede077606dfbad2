#pragma once

#include <cstddef>
#include <span>

namespace ridge::format {

// Reads a model folder of these files, parted by the byte 1E: config.json, tokenizer.json,
// tokenizer_config.json, model.safetensors.index.json (none where empty) and, to the end,
// model.safetensors. True where it is accepted and each of its tensors is read; false where an
// Error says why not. Anything else ends the process.
bool exercise_model_folder(std::span<const std::byte> bytes);

}  // namespace ridge::format
