#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/digest.h"

namespace ridge::platform {

// A file of a repository as its hub lists it.
struct HubFile {
  std::string path;              // "Q8_0/model-Q8_0-00001-of-00002.gguf"
  int64_t size_bytes = 0;        // 0 where not stated
  std::optional<Digest> digest;  // where stated
};

struct HubChoice {
  std::string quantization;    // canonical; empty where the file's name says nothing
  std::vector<HubFile> files;  // one, or the parts in order
};

// The GGUF file of a quantisation, or its parts. An empty `quantization` takes the preferred one
// (see quantization.h), or the only GGUF file there is. Projectors of images (mmproj) are passed
// over. Throws not_found, naming what there is, where none fits, and invalid_file where a part is
// missing or a name is no clean relative path.
HubChoice choose_files(const std::vector<HubFile>& listing, std::string_view quantization,
                       std::string_view repository);

// The body of /api/models/REPOSITORY?blobs=true of Hugging Face, and the commit that it describes.
// Throws invalid_file where it is not of that form.
std::vector<HubFile> read_hugging_face_listing(std::string_view json, std::string& commit);
// The body of /api/v1/models/REPOSITORY/repo/files of ModelScope.
std::vector<HubFile> read_modelscope_listing(std::string_view json);

}  // namespace ridge::platform
