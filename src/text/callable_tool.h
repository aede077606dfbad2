#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::text {

// The types that a JSON schema leaves to a value, as bits.
using ValueTypes = uint8_t;
inline constexpr ValueTypes string_value = 1, number_value = 2, boolean_value = 4, null_value = 8,
                            object_value = 16, array_value = 32, any_value = 63;

struct ToolParameter {
  std::string name;
  ValueTypes types = any_value;
};

// A tool as who reads calls of it sees it.
struct CallableTool {
  std::string name;
  // For styles that write strings without quotes (ToolStyle::qwen3_coder); what is not listed may
  // be anything.
  std::vector<ToolParameter> parameters;

  ValueTypes types_of(std::string_view parameter) const;
};

// `schema`: the JSON schema of the arguments, as text.
CallableTool callable_tool(std::string name, std::string_view schema);

}  // namespace ridge::text
