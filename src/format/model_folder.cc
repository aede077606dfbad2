#include "format/model_folder.h"

#include <algorithm>
#include <map>
#include <system_error>

#include "base/error.h"
#include "format/folder_config.h"
#include "format/folder_json.h"
#include "format/folder_shards.h"
#include "format/folder_tensors.h"
#include "format/folder_tokenizer.h"
#include "format/gguf_writer.h"
#include "format/stored_scheme.h"

namespace ridge::format {

namespace {

constexpr uint64_t config_bytes_max = 4 << 20;
constexpr uint32_t block_layout_version = 2;  // general.quantization_version

// general.file_type, as llama.cpp numbers it.
uint32_t file_type_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 1;
    case DType::q4_0:
      return 2;
    case DType::q8_0:
      return 7;
    case DType::q5_0:
      return 8;
    case DType::bf16:
      return 32;
    default:
      return 0;
  }
}

// The type of most weights.
DType main_dtype(const std::vector<GgufPart>& parts) {
  std::map<DType, int64_t> elements;
  for (const GgufPart& part : parts) {
    if (part.shape.rank() > 1) elements[part.dtype] += part.shape.elements();
  }
  return std::ranges::max_element(elements, {}, [](const auto& each) { return each.second; })
      ->first;
}

// "DeepSeek-R1-Distill-Qwen-1.5B" of a folder of that name, however its path ends.
std::string name_of(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::path whole = std::filesystem::absolute(folder, ignored).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  return whole.filename().string();
}

GgufFile open_folder(const std::filesystem::path& folder) {
  const FolderJson config = FolderJson::read(folder / "config.json", config_bytes_max);
  FolderModel model = read_folder_model(config);
  const StoredScheme scheme = read_stored_scheme(config);
  auto shards = std::make_shared<const FolderShards>(FolderShards::open(folder));
  model.kept_guessing_layers = guessing_layers_in(*shards, model);
  GgufParts parts{.source = name_of(folder)};
  parts.file_bytes = shards->file_bytes();
  parts.tensors = folder_tensors(shards, model, scheme);
  parts.advise = [shards](const TensorView& view, Access access) { shards->advise(view, access); };
  GgufWriter out;
  out.set_string("general.architecture", model.architecture);
  out.set_string("general.type", "model");
  out.set_string("general.name", parts.source);
  out.set_uint32("general.file_type", file_type_of(main_dtype(parts.tensors)));
  out.set_uint32("general.quantization_version", block_layout_version);
  write_folder_model(config, model, out);
  write_folder_tokenizer(folder, model.vocab_size, out);
  parts.header = out.to_bytes();
  return GgufFile::of_parts(std::move(parts));
}

}  // namespace

bool is_model_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path / "config.json", ignored);
}

GgufFile open_model(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return GgufFile::open(path);
  if (is_model_folder(path)) return open_folder(path);
  throw Error(ErrorCode::not_found,
              path.string() +
                  " is a folder without a config.json; a GGUF file, or a folder of a model "
                  "as Hugging Face's libraries save it, is expected");
}

}  // namespace ridge::format
