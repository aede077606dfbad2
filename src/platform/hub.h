#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "platform/catalog.h"
#include "platform/download.h"

namespace ridge::platform {

struct RemoteModel {
  std::string quantization;       // canonical; empty where unknown
  std::vector<RemoteFile> files;  // the parts in order
};

// Asks a hub for the files of a quantisation (empty: the preferred one) and for their digests.
// `source` is of kind hugging_face (HF_ENDPOINT, else https://huggingface.co; HF_TOKEN) or
// modelscope (MODELSCOPE_ENDPOINT, else https://www.modelscope.cn). Throws HttpError, not_found,
// and invalid_file where the hub states no digest: nothing is taken that cannot be checked.
RemoteModel find_on_hub(const CatalogSource& source, std::string_view quantization,
                        const DownloadOptions& options);

}  // namespace ridge::platform
