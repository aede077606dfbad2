#pragma once

#include <cstdint>

#include "format/folder_json.h"

namespace ridge::format {

// How a folder stores its quantised weights, from `quantization_config` of its config.json. Weights
// that are stored as plain floats all the same (the head, routers) need no mention.
struct StoredScheme {
  enum class Kind { none };
  Kind kind = Kind::none;
};

// Throws invalid_file for a field that is missing or out of range, unsupported, naming those that are
// known, for another method.
StoredScheme read_stored_scheme(const FolderJson& config);

}  // namespace ridge::format
