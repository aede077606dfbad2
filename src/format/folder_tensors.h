#pragma once

#include <memory>
#include <vector>

#include "format/folder_config.h"
#include "format/folder_shards.h"
#include "format/gguf.h"
#include "format/stored_scheme.h"

namespace ridge::format {

// How many of the layers for multi-token prediction that config.json declares the folder has tensors
// of; transformers saves none.
int guessing_layers_in(const FolderShards& shards, const FolderModel& model);

// The tensors of a model folder under the names and in the layouts that GGUF has for the family:
// rows of Llama's queries and keys in pairs, experts of a layer joined, DeepSeek's kv_b split in
// two, norms of Gemma with their one added, vectors and routers as F32. Every tensor is found and
// its shape checked; none is read. The folder's tensors are not copied where GGUF's are the same
// bytes.
//
// Throws invalid_file naming the first tensor that is missing or does not fit, with what it is and
// what is wanted, unsupported for one that the family has no use for.
std::vector<GgufPart> folder_tensors(std::shared_ptr<const FolderShards> shards,
                                     const FolderModel& model, const StoredScheme& scheme);

}  // namespace ridge::format
