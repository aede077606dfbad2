#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

#include "text/tool_grammar.h"

namespace ridge::text {

// The Lark rules of one call as Qwen3-Coder writes it, from <function=NAME> to </function>, whose
// first is `body_INDEX`. Parameters come in the order of the schema. Values that are JSON are
// grammars of their own, which are added to `parts`. `gap` stands between tags.
//
// `bytes_left`: that such grammars may have; what they take is taken off.
//
// Error(invalid_argument) where they have more; and where a strict function's schema has something
// that values without quotes cannot be held to; of others it is ignored.
std::string xml_call_rules(std::size_t index, const ToolFunction& function, const std::string& gap,
                           nlohmann::ordered_json& parts, std::size_t& bytes_left);

}  // namespace ridge::text
