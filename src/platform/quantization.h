#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ridge::platform {

// Upper case ("q4_k_m" -> "Q4_K_M"). Throws invalid_argument unless 2 to 32 of A-Z, 0-9, '_', '-'.
std::string canonical_quantization(std::string_view text);

// "q4_k_m" in "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf", "model.q4_k_m-00001-of-00002.gguf": the
// file's stem, without the number of a part, ends in the quantisation after '-', '.' or '_', or is
// it. Case does not count.
bool has_quantization(std::string_view file_name, std::string_view quantization);

// What the file's name says, canonical; empty where it says nothing.
std::string quantization_of(std::string_view file_name);

// Quantisations to try where a person named none, the best balance of size and quality first.
std::span<const std::string_view> preferred_quantizations();

// Of "NAME-00002-of-00005.gguf": NAME, 2, 5. Of any other file: its stem, 1, 1.
struct PartName {
  std::string_view stem;
  int part;
  int parts;
};
PartName part_name(std::string_view file_name);

}  // namespace ridge::platform
