#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/mapped_file.h"
#include "format/safetensors.h"
#include "tensor/view.h"

namespace ridge::format {

// A tensor as a safetensors file of the folder holds it, of any type.
struct FolderTensor {
  std::string name;
  std::string type;  // as safetensors names it: "BF16", "F8_E4M3", "I32"
  Shape shape;
  std::span<const std::byte> bytes;  // at any alignment
  uint32_t shard = 0;
};

// The safetensors files of a model folder: model.safetensors, or those that
// model.safetensors.index.json lists. An index names files of its own folder only.
class FolderShards {
 public:
  // Throws not_found where the folder has no such files or one is missing, invalid_file where one
  // is damaged, the index and the files disagree, or two files hold a tensor of one name;
  // unsupported for weights in another format, saying how to get these.
  static FolderShards open(const std::filesystem::path& folder);

  // In the order of their names.
  std::span<const FolderTensor> tensors() const { return tensors_; }
  // nullptr where there is none.
  const FolderTensor* find(std::string_view name) const;
  // The name of the file that holds it.
  const std::string& file_of(const FolderTensor& tensor) const { return names_[tensor.shard]; }
  uint64_t file_bytes() const { return file_bytes_; }

  void advise(const FolderTensor& tensor, Access access) const;
  // Of bytes that lie in one of the tensors.
  void advise(const TensorView& view, Access access) const;

 private:
  FolderShards() = default;
  void add(const std::filesystem::path& folder, const std::string& name);
  void index();

  std::vector<std::string> names_;
  std::vector<SafetensorsFile> files_;
  std::vector<FolderTensor> tensors_;
  uint64_t file_bytes_ = 0;
};

}  // namespace ridge::format
