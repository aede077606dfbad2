#include "text/parameter_schema.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

constexpr int most_steps = 16;   // of references, one behind the other
constexpr int most_levels = 16;  // of schemas in schemas
constexpr std::array<std::string_view, 8> annotations = {"title",     "description", "default",
                                                         "examples",  "deprecated",  "readOnly",
                                                         "writeOnly", "$comment"};

// Whether nothing but `keyword` says what values may be.
bool stands_alone(const ordered_json& schema, std::string_view keyword) {
  for (const auto& [key, _] : schema.items()) {
    if (key != keyword && !is_annotation(key)) return false;
  }
  return true;
}

const ordered_json* referred(const ordered_json& reference, const ordered_json& root) {
  if (!reference.is_string()) return nullptr;
  const auto& text = reference.get_ref<const std::string&>();
  if (!text.starts_with('#')) return nullptr;
  try {
    const ordered_json::json_pointer pointer(text.substr(1));
    return root.contains(pointer) ? &root.at(pointer) : nullptr;
  } catch (const ordered_json::exception&) {
    return nullptr;  // no pointer, but a name
  }
}

ValueTypes type_named(const ordered_json& name) {
  if (name == "string") return string_value;
  if (name == "number" || name == "integer") return number_value;
  if (name == "boolean") return boolean_value;
  if (name == "null") return null_value;
  if (name == "object") return object_value;
  if (name == "array") return array_value;
  return 0;
}

ValueTypes types_at(const ordered_json& given, const ordered_json& root, int level, int& budget) {
  const ordered_json& schema = resolved(given, root);
  if (!schema.is_object() || level > most_levels || --budget < 0) return any_value;
  ValueTypes types = any_value;
  const auto narrow = [&](ValueTypes to) {
    if ((types & to) != 0) types &= to;  // what contradicts itself says nothing
  };
  if (const auto found = schema.find("$ref"); found != schema.end()) {
    if (const ordered_json* other = referred(*found, root)) {
      narrow(types_at(*other, root, level + 1, budget));
    }
  }
  if (const auto found = schema.find("type"); found != schema.end()) {
    ValueTypes named = 0;
    if (!found->is_array()) named = type_named(*found);
    for (const ordered_json& one : found->is_array() ? *found : ordered_json::array()) {
      named |= type_named(one);
    }
    narrow(named);
  }
  if (const auto found = schema.find("enum"); found != schema.end() && found->is_array()) {
    ValueTypes listed = 0;
    for (const ordered_json& value : *found) listed |= type_of(value);
    narrow(listed);
  }
  if (const auto found = schema.find("const"); found != schema.end()) narrow(type_of(*found));
  for (const char* keyword : {"anyOf", "oneOf"}) {
    const auto found = schema.find(keyword);
    if (found == schema.end() || !found->is_array()) continue;
    ValueTypes either = 0;
    for (const ordered_json& one : *found) either |= types_at(one, root, level + 1, budget);
    narrow(either);
  }
  if (const auto found = schema.find("allOf"); found != schema.end() && found->is_array()) {
    for (const ordered_json& one : *found) narrow(types_at(one, root, level + 1, budget));
  }
  return types;
}

}  // namespace

bool is_annotation(std::string_view keyword) {
  return std::ranges::find(annotations, keyword) != annotations.end();
}

const ordered_json& resolved(const ordered_json& schema, const ordered_json& root) {
  const ordered_json* at = &schema;
  for (int step = 0; step < most_steps && at->is_object(); ++step) {
    const auto reference = at->find("$ref");
    const auto all = at->find("allOf");
    if (reference != at->end() && stands_alone(*at, "$ref")) {
      const ordered_json* other = referred(*reference, root);
      if (other == nullptr) break;
      at = other;
    } else if (all != at->end() && all->is_array() && all->size() == 1 &&
               stands_alone(*at, "allOf")) {
      at = &all->front();
    } else {
      break;
    }
  }
  return *at;
}

ValueTypes types_under(const ordered_json& schema, const ordered_json& root, int& budget) {
  return types_at(schema, root, 0, budget);
}

ValueTypes type_of(const ordered_json& value) {
  switch (value.type()) {
    case ordered_json::value_t::string:
      return string_value;
    case ordered_json::value_t::boolean:
      return boolean_value;
    case ordered_json::value_t::null:
      return null_value;
    case ordered_json::value_t::object:
      return object_value;
    case ordered_json::value_t::array:
      return array_value;
    default:
      return number_value;
  }
}

ValueTypes CallableTool::types_of(std::string_view parameter) const {
  for (const ToolParameter& known : parameters) {
    if (known.name == parameter) return known.types;
  }
  return any_value;
}

CallableTool callable_tool(std::string name, std::string_view schema) {
  CallableTool tool{std::move(name), {}};
  const auto root = ordered_json::parse(schema, nullptr, /*allow_exceptions=*/false);
  const ordered_json& whole = resolved(root, root);
  if (!whole.is_object()) return tool;
  const auto properties = whole.find("properties");
  if (properties == whole.end() || !properties->is_object()) return tool;
  int budget = most_schemas;
  for (const auto& [key, schema_of_one] : properties->items()) {
    tool.parameters.push_back({key, types_under(schema_of_one, root, budget)});
  }
  return tool;
}

}  // namespace ridge::text
