#include "format/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>

#include "base/error.h"
#include "base/model_path.h"
#include "format/folder_config.h"
#include "format/folder_json.h"
#include "format/folder_shards.h"
#include "format/folder_tensors.h"
#include "format/folder_tokenizer.h"
#include "format/gguf_writer.h"
#include "format/quantization_recipe.h"
#include "format/stored_scheme.h"

namespace ridge::format {

namespace {

constexpr uint64_t config_bytes_max = 4 << 20;
// Of a file most of whose weights are of this type.
uint32_t file_type_of(DType dtype) {
  // Of no recipe all weights are.
  if (dtype == DType::mxfp4) return quantization_recipe("MXFP4_MOE").file_type;
  const auto recipes = quantization_recipes();
  const auto found = std::ranges::find(recipes, dtype, &QuantizationRecipe::dtype);
  RIDGE_ASSERT(found != recipes.end());
  return found->file_type;
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

GgufFile open_folder(const std::filesystem::path& folder, int threads) {
  const FolderJson config = FolderJson::read(folder / "config.json", config_bytes_max);
  FolderModel model = read_folder_model(config);
  const StoredScheme scheme = read_stored_scheme(config);
  auto shards = std::make_shared<const FolderShards>(FolderShards::open(folder));
  model.kept_guessing_layers = guessing_layers_in(*shards, model);
  GgufParts parts{.source = folder_name(folder), .threads = threads};
  parts.file_bytes = shards->file_bytes();
  parts.tensors = folder_tensors(shards, model, scheme);
  parts.advise = [shards](const TensorView& view, Access access) { shards->advise(view, access); };
  GgufWriter out;
  out.set_string("general.architecture", model.architecture);
  out.set_string("general.type", "model");
  out.set_string("general.name", parts.source);
  out.set_uint32("general.file_type", file_type_of(main_dtype(parts.tensors)));
  out.set_uint32("general.quantization_version", quantization_version);
  if (scheme.has_int8_activations) out.set_boolean(int8_activations_key, true);
  write_folder_model(config, model, out);
  write_folder_tokenizer(folder, config, model.vocab_size, out);
  parts.header = out.to_bytes();
  return GgufFile::of_parts(std::move(parts));
}

// Files of GGUF that are no model: whatever is read of them first would be named as missing.
void refuse_other_kinds(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  const std::string_view type = metadata.optional_string("general.type").value_or("");
  const auto architecture = metadata.optional_string("general.architecture");
  if (type == "mmproj" || architecture == "clip") {
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: this is the part of a model that takes in images or sound, which "
                            "this build does not; the file of its text part alone may run",
                            metadata.source()));
  }
  if (type == "imatrix") {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: this is an importance matrix and no model; 'ridge quantize "
                            "--imatrix' takes it",
                            metadata.source()));
  }
}

}  // namespace

GgufFile open_model(const std::filesystem::path& path, int threads) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    GgufFile file = GgufFile::open(path);
    refuse_other_kinds(file);
    return file;
  }
  if (is_model_folder(path)) return open_folder(path, threads);
  throw Error(ErrorCode::not_found,
              path.string() +
                  " is a folder without a config.json; a GGUF file, or a folder of a model "
                  "as Hugging Face's libraries save it, is expected");
}

}  // namespace ridge::format
