#include "platform/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "base/model_path.h"
#include "platform/quantization.h"

namespace ridge::platform {
namespace {

std::string stored_hugging_face_name(const ModelReference& reference, const Store& store) {
  if (!reference.quantization.empty()) return reference.to_string();
  const std::string prefix = reference.to_string() + ":";
  std::vector<std::string> here;
  for (const Manifest& manifest : store.list()) {
    if (manifest.name.starts_with(prefix)) here.push_back(manifest.name);
  }
  if (here.empty()) return reference.to_string();
  for (const std::string_view preferred : preferred_quantizations()) {
    const auto found = std::find(here.begin(), here.end(), prefix + std::string(preferred));
    if (found != here.end()) return *found;
  }
  return here.front();
}

}  // namespace

std::string stored_name(const ModelReference& reference, const Catalog& catalog,
                        const Store& store) {
  RIDGE_ASSERT(reference.kind != ReferenceKind::path);
  if (reference.kind == ReferenceKind::hugging_face) {
    return store.get(stored_hugging_face_name(reference, store)).name;
  }
  // A model stays usable after the catalog has dropped it.
  if (store.find(reference.name)) return reference.name;
  return store.get(catalog.get(reference.name).name()).name;
}

ResolvedModel resolve(const ModelReference& reference, const Catalog& catalog, const Store& store) {
  if (reference.kind != ReferenceKind::path) {
    std::string name = stored_name(reference, catalog, store);
    std::filesystem::path path = store.open_checked(name);
    std::vector<Digest> digests;
    for (const StoredFile& file : store.get(name).files) digests.push_back(file.digest);
    return {std::move(name), std::move(path), std::move(digests)};
  }
  std::error_code failure;
  if (!std::filesystem::is_regular_file(reference.path, failure) &&
      !is_model_folder(reference.path)) {
    const bool exists = std::filesystem::exists(reference.path, failure);
    const bool is_folder = std::filesystem::is_directory(reference.path, failure);
    throw Error(ErrorCode::not_found,
                fmt::format("{} {}", reference.path.string(),
                            is_folder ? "is a folder without a config.json, as a model's has one"
                            : exists  ? "is no file"
                                      : "does not exist"));
  }
  return {reference.path.string(), reference.path, {}};
}

}  // namespace ridge::platform
