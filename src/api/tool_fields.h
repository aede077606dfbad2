#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "api/fields.h"
#include "text/tool_grammar.h"

namespace ridge::api {

struct ToolChoice {
  enum class Kind { none, automatic, required, named };
  Kind kind = Kind::automatic;
  std::string name;                  // where named
  std::vector<std::string> allowed;  // of `tools`; empty: all

  bool allows(std::string_view tool) const;
};

// Where a function's name stands in its description: in `function`, as in chat completions, or
// beside its type, as in Responses.
enum class FunctionForm { nested, flat };

// The tools that an answer may call, whatever wire format named them.
struct ToolFields {
  // [{"type": "function", "function": {"name", "description"?, "parameters"?, "strict"?}}, …], as
  // templates expect it; an empty array for none.
  Json tools = Json::array();
  ToolChoice choice;
  bool parallel = true;
  std::string parameters_path = "function.parameters";  // in an entry of the request's `tools`

  // Whether the answer may call one.
  bool may_call() const { return !tools.empty() && choice.kind != ToolChoice::Kind::none; }
  // Whether it must.
  bool must_call() const {
    return choice.kind == ToolChoice::Kind::required || choice.kind == ToolChoice::Kind::named;
  }
};

// tools, tool_choice and parallel_tool_calls as chat completions have them.
ToolFields parse_tool_fields(const Fields& body);
// tool_choice: "auto", "none", "required", a function, or allowed_tools, some of the `tools` with
// "auto" or "required" as their mode.
ToolChoice parse_tool_choice(const Fields& body, bool has_tools, FunctionForm form);
// Adds a function that other formats than chat completions describe: an object with name,
// description, strict and, under `parameters_name`, a schema. Throws as parse_tool_fields.
void add_function(const Fields& described, std::string_view parameters_name, ToolFields& to);
// The elements of `tools`, at most as many as are allowed; nullptr where there are none.
const Json* find_tools(const Fields& body);
// Checks one entry of `tools`; `path` names it in errors.
void check_tool(const Json& tool, const std::string& path);
// Checks that a choice names some of the tools, and that one that must call has any.
void check_tool_choice(const ToolFields& fields, const std::string& param);

// The functions that the answer may call, in the order of `tools`.
std::vector<text::ToolFunction> callable_functions(const ToolFields& fields);

// The calls of an earlier answer, checked: [{"id", "type", "function": {"name", "arguments": "JSON
// text"}}, …].
Json parse_tool_calls(const Json& calls, const std::string& path);

}  // namespace ridge::api
