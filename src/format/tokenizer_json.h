#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ridge::format {

// Parts of a tokenizer.json, as Hugging Face's `tokenizers` writes them: objects with a "type".

// Empty where the part is no object, or has no type.
std::string part_type(const nlohmann::json& part);

// `fallback` where the field is missing, or is neither true nor false.
bool part_flag(const nlohmann::json& part, const char* key, bool fallback);

// What stands in the list `list` of a Sequence, else the part itself; nothing where it is null.
std::vector<const nlohmann::json*> parts_in(const nlohmann::json& part, const char* list);

}  // namespace ridge::format
