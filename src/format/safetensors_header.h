#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::format {

// A tensor as the header declares it; nothing but the form is checked yet.
struct SafetensorsRecord {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> extents;  // outermost first, at most safetensors_extents_max
  uint64_t begin = 0;             // from the header's end
  uint64_t end = 0;
};

inline constexpr size_t safetensors_extents_max = 16;

struct SafetensorsHeader {
  std::vector<SafetensorsRecord> tensors;  // in the header's order
  std::map<std::string, std::string, std::less<>> metadata;
};

// Throws invalid_file where `json` is not a header. `source` names the file in messages.
SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& source);

}  // namespace ridge::format
