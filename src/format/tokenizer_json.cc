#include "format/tokenizer_json.h"

namespace ridge::format {

using nlohmann::json;

std::string part_type(const json& part) {
  if (!part.is_object()) return {};
  const auto type = part.find("type");
  return type != part.end() && type->is_string() ? type->get<std::string>() : std::string();
}

bool part_flag(const json& part, const char* key, bool fallback) {
  const auto at = part.find(key);
  return at != part.end() && at->is_boolean() ? at->get<bool>() : fallback;
}

std::vector<const json*> parts_in(const json& part, const char* list) {
  if (part.is_null()) return {};
  if (part_type(part) != "Sequence") return {&part};
  const auto at = part.find(list);
  if (at == part.end() || !at->is_array()) return {&part};
  std::vector<const json*> parts;
  for (const json& each : *at) parts.push_back(&each);
  return parts;
}

}  // namespace ridge::format
