#include "format/folder_shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "format/folder_json.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

constexpr std::string_view whole_name = "model.safetensors";
constexpr std::string_view index_name = "model.safetensors.index.json";

constexpr uint64_t index_bytes_max = 64 << 20;  // DeepSeek-V3's has 9 MB
constexpr size_t shards_max = 1'000;

// A name that leads nowhere but into its own folder.
bool is_plain_file_name(std::string_view name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// File by tensor.
std::map<std::string, std::string> read_index(const std::filesystem::path& folder) {
  const FolderJson json = FolderJson::read(folder / index_name, index_bytes_max);
  const auto map = json.object("weight_map");
  if (!map) json.refuse("'weight_map' is missing");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->body().items()) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      map->refuse(
          fmt::format("tensor {} is said to be in {}; the name of a .safetensors file in "
                      "this folder is expected",
                      quoted_name(tensor),
                      file.is_string() ? quoted_name(file.get_ref<const std::string&>())
                                       : std::string("no text")));
    }
    files.emplace(tensor, file.get<std::string>());
  }
  if (files.empty()) map->refuse("it lists no tensor");
  return files;
}

[[noreturn]] void refuse_no_weights(const std::filesystem::path& folder) {
  std::error_code ignored;
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (!std::filesystem::exists(folder / other, ignored)) continue;
    throw Error(ErrorCode::unsupported,
                fmt::format("{} has its weights as {}, a format that runs code when it is read; "
                            "save them as safetensors (save_pretrained with "
                            "safe_serialization=True)",
                            folder.string(), other));
  }
  throw Error(ErrorCode::not_found,
              fmt::format("{} has neither {} nor {}, as a folder of a model has", folder.string(),
                          whole_name, index_name));
}

}  // namespace

FolderShards FolderShards::open(const std::filesystem::path& folder) {
  FolderShards shards;
  std::error_code ignored;
  if (!std::filesystem::exists(folder / index_name, ignored)) {
    if (!std::filesystem::exists(folder / whole_name, ignored)) refuse_no_weights(folder);
    shards.add(folder, std::string(whole_name));
    shards.index();
    return shards;
  }
  const std::map<std::string, std::string> file_by_tensor = read_index(folder);
  std::set<std::string> names;
  for (const auto& [tensor, file] : file_by_tensor) names.insert(file);
  if (names.size() > shards_max) {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: it lists {} files; at most {} are read",
                                                     index_name, names.size(), shards_max));
  }
  for (const std::string& name : names) {
    if (!std::filesystem::exists(folder / name, ignored)) {
      throw Error(ErrorCode::not_found,
                  fmt::format("{}: {}, one of the {} files that {} lists, is missing",
                              folder.string(), quoted_name(name), names.size(), index_name));
    }
    shards.add(folder, name);
  }
  shards.index();
  for (const auto& [tensor, file] : file_by_tensor) {
    const FolderTensor* found = shards.find(tensor);
    if (found != nullptr && shards.file_of(*found) == file) continue;
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: tensor {} is said to be in {}, which does not hold it", index_name,
                            quoted_name(tensor), quoted_name(file)));
  }
  return shards;
}

void FolderShards::add(const std::filesystem::path& folder, const std::string& name) {
  SafetensorsFile file = SafetensorsFile::open(folder / name);
  const auto shard = static_cast<uint32_t>(files_.size());
  file_bytes_ += file.file_bytes();
  for (const SafetensorsTensor& tensor : file.tensors()) {
    tensors_.push_back({tensor.name, std::string(ridge::name(tensor.view.dtype)), tensor.view.shape,
                        tensor.view.bytes, shard});
  }
  for (const SafetensorsUnsupportedTensor& tensor : file.unsupported_tensors()) {
    // Nothing that a model has is of another rank; a reason that names it comes when it is asked
    // for.
    tensors_.push_back(
        {tensor.name, tensor.type, tensor.shape.value_or(Shape{}), tensor.data, shard});
  }
  names_.push_back(name);
  files_.push_back(std::move(file));
}

void FolderShards::index() {
  std::ranges::sort(tensors_, {}, &FolderTensor::name);
  const auto twin = std::ranges::adjacent_find(tensors_, {}, &FolderTensor::name);
  if (twin == tensors_.end()) return;
  throw Error(ErrorCode::invalid_file,
              fmt::format("tensor {} is both in {} and in {}", quoted_name(twin->name),
                          quoted_name(file_of(*twin)), quoted_name(file_of(*std::next(twin)))));
}

const FolderTensor* FolderShards::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(tensors_, name, {}, &FolderTensor::name);
  return at == tensors_.end() || at->name != name ? nullptr : &*at;
}

void FolderShards::advise(const FolderTensor& tensor, Access access) const {
  files_[tensor.shard].advise({DType::i8, {}, tensor.bytes}, access);
}

void FolderShards::advise(const TensorView& view, Access access) const {
  for (const SafetensorsFile& file : files_) {
    if (file.contains(view)) return file.advise(view, access);
  }
}

}  // namespace ridge::format
