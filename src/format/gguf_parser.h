#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf_metadata.h"
#include "tensor/shape.h"

namespace ridge::format {

// Bounds that no real file comes near, so that a hostile one costs little time.
inline constexpr uint64_t metadata_keys_max = 65'536;
// In one file; DeepSeek-V3 with each expert's weights apart would have 45,000.
inline constexpr uint64_t tensors_max = 65'536;
inline constexpr uint64_t key_bytes_max = 1'024;
// The specification allows 64, but adapters' names are longer.
inline constexpr uint64_t tensor_name_bytes_max = 256;
inline constexpr uint64_t strings_max = 4'194'304;     // in all arrays of one file
inline constexpr uint64_t nested_arrays_max = 65'536;  // in one file
inline constexpr int array_depth_max = 4;
inline constexpr uint64_t alignment_max_bytes = 1u << 20;

// A tensor as the header declares it; its type and extent are not checked yet.
struct GgufTensorRecord {
  std::string_view name;
  Shape shape;  // outermost first; every extent positive, the product fits int64
  uint32_t type_number;
  uint64_t offset_bytes;  // from the data section; a multiple of the alignment
};

// The header of one file. All views point into the file's bytes.
struct GgufHeader {
  uint32_t version;
  GgufMetadata metadata;
  std::vector<GgufTensorRecord> tensors;
  uint64_t data_offset_bytes;  // of the data section; may lie past the end where there is no tensor
};

// Throws invalid_file where the bytes break the format, unsupported for big-endian files and other
// versions than 2 and 3. `source` names the file in messages.
GgufHeader parse_header(std::span<const std::byte> bytes, const std::string& source);

}  // namespace ridge::format
