#pragma once

#include <cstdint>

#include "format/folder_json.h"

namespace ridge::format {

// How a folder stores its quantised weights, from `quantization_config` of its config.json. Weights
// that are stored as plain floats all the same (the head, routers) need no mention.
struct StoredScheme {
  enum class Kind {
    none,
    fp8,     // e4m3 with a scale for each block (DeepSeek-V3's), row or matrix
    awq,     // codes and zero points of four bits, eight outputs in a word
    gptq,    // the same, eight inputs in a word
    packed,  // compressed-tensors' pack-quantized: codes of four or eight bits, a row after another
    integers,  // compressed-tensors' int-quantized: an I8 for each weight
    mxfp4,     // experts as codes of E2M1 and a power of two for each 32 (gpt-oss)
  };
  Kind kind = Kind::none;
  int bits = 4;                 // of a code
  int64_t group = 0;            // columns that share a scale; 0: all of a row
  bool is_symmetric = true;     // zero points are the middle of the codes
  int zero_offset = 0;          // gptq: what a stored zero point is less than the true one
  int64_t block_rows = 128;     // fp8
  int64_t block_columns = 128;  // fp8
  bool has_int8_activations = false;  // integers: made for rows of x in int8, quantised as they come
};

// Throws invalid_file for a field that is missing or out of range, unsupported, naming those that
// are known, for another method.
StoredScheme read_stored_scheme(const FolderJson& config);

}  // namespace ridge::format
