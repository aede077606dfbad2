#pragma once

#include <filesystem>

#include "format/gguf.h"

namespace ridge::format {

// Opens a model: a GGUF file (GgufFile::open), or a model folder, read as the GGUF file that it
// would be: metadata from config.json, the vocabulary from tokenizer.json, tensors from
// safetensors. Of a folder no weight is read before it is wanted (GgufFile::ready).
// docs/model-folders.md says what is read and what becomes of it.
//   threads: that GgufFile::ready may use; 0: as many as this process may
//
// Throws not_found, io; invalid_file naming the file and the field or tensor that is wrong, what it
// is and what is wanted, or for an importance matrix; unsupported for what this build does not run,
// such as the part of a multimodal model that takes in images.
GgufFile open_model(const std::filesystem::path& path, int threads = 0);

}  // namespace ridge::format
