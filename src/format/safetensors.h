#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/mapped_file.h"
#include "tensor/view.h"

namespace ridge::format {

// Bounds that no real file comes near, so that a hostile one costs little time. The first is that
// of Hugging Face's own reader.
inline constexpr uint64_t safetensors_header_bytes_max = 100'000'000;
inline constexpr size_t safetensors_tensors_max = 65'536;
inline constexpr size_t safetensors_name_bytes_max = 512;

struct SafetensorsTensor {
  std::string name;
  // F32, F16 or BF16, outermost extent first. An extent may be zero. The bytes have any alignment.
  TensorView view;
};

// A tensor that is no plain matrix of floats: one that this build cannot read, kept so that a file is
// still read for its others, or a part of a quantised weight, which whoever knows the scheme reads.
struct SafetensorsUnsupportedTensor {
  std::string name;
  std::string type;  // "I64", or "F32 of 5 extents"
  uint64_t bytes;
  std::optional<Shape> shape;       // outermost extent first; nullopt above Shape::max_rank extents
  std::span<const std::byte> data;  // at any alignment
};

// A safetensors file (source: the format's description in huggingface/safetensors, README.md):
// eight bytes of header length, a JSON header, and the tensors' bytes. It is checked whole before
// anything is handed out: the header's form, bounds and names, and that the tensors cover the bytes
// behind it without overlap or hole, as Hugging Face's reader wants it too. What breaks the format
// throws Error(invalid_file). Memory stays within a small multiple of the header's size.
class SafetensorsFile {
 public:
  // Maps the file.
  static SafetensorsFile open(const std::filesystem::path& path);
  // Reads one file that the caller holds in memory and keeps there; `source` names it in messages.
  static SafetensorsFile parse(std::span<const std::byte> bytes,
                               std::string source = "safetensors data");

  // In the order of their names.
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  std::span<const SafetensorsUnsupportedTensor> unsupported_tensors() const { return unsupported_; }
  // nullptr where there is none that can be read.
  const SafetensorsTensor* find(std::string_view name) const;
  // The header's `__metadata__`.
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Whether the view's bytes lie in the mapped file.
  bool contains(const TensorView& view) const;
  // As GgufFile::advise.
  void advise(const TensorView& view, Access access) const;

 private:
  SafetensorsFile() = default;
  void read(std::span<const std::byte> bytes);

  std::string source_;
  MappedFile mapped_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<SafetensorsUnsupportedTensor> unsupported_;
  std::map<std::string, std::string, std::less<>> metadata_;
  uint64_t file_bytes_ = 0;
};

}  // namespace ridge::format
