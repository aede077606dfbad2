#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "platform/catalog.h"
#include "platform/model_reference.h"
#include "platform/store.h"

namespace ridge::platform {

struct ResolvedModel {
  std::string name;            // the model's name in the store, or the path as it was given
  std::filesystem::path path;  // what format::open_model takes: a file, or a model folder
  std::vector<Digest> digests;  // of its parts; empty for a path
};

// The name in the store that a catalog or Hugging Face reference stands for. Without a
// quantisation, hf:organisation/repository stands for the one that is here, or the preferred of
// several. Throws not_found, saying how to pull it, where nothing of it is here.
std::string stored_name(const ModelReference& reference, const Catalog& catalog,
                        const Store& store);

// The file of a model: a path as it is, which may be a model folder, a name through the store
// (Store::open_checked). Throws not_found for a path where neither is.
ResolvedModel resolve(const ModelReference& reference, const Catalog& catalog, const Store& store);

}  // namespace ridge::platform
