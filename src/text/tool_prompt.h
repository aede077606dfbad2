#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "text/tool_style.h"

namespace ridge::text {

// What a template that knows no tools leaves unsaid, in the words of the style.

// The tools (as in the request) and how to call them: for the system message.
std::string describe_tools(ToolStyle style, const nlohmann::ordered_json& tools);
// The calls of an earlier answer, [{"function": {"name", "arguments": "JSON text"}}, …]: for the
// end of that answer.
std::string write_calls(ToolStyle style, const nlohmann::ordered_json& calls);

}  // namespace ridge::text
