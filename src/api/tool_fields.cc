#include "api/tool_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/request_limits.h"
#include "base/error.h"

namespace ridge::api {
namespace {

bool is_function_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') ||
           std::string_view("_-.:/").find(byte) != std::string::npos;
  });
}

std::string name_of(const Json& tool) { return tool.at("function").at("name").get<std::string>(); }

bool has_tool(const ToolFields& fields, const std::string& name) {
  return std::any_of(fields.tools.begin(), fields.tools.end(),
                     [&](const Json& tool) { return name_of(tool) == name; });
}

// The name of the function that an entry of a choice stands for.
std::string chosen_name(const Fields& entry, FunctionForm form) {
  const std::string type = entry.string("type", max_name_bytes).value_or("function");
  if (type != "function") {
    refuse_unsupported(entry.path_of("type"), "only \"function\" is known");
  }
  if (form == FunctionForm::flat) return entry.required_string("name", max_function_name_bytes);
  const auto function = entry.object("function");
  if (!function) refuse_missing(entry.path_of("function"));
  return function->required_string("name", max_function_name_bytes);
}

ToolChoice allowed_tools(const Fields& choice, FunctionForm form) {
  ToolChoice allowed;
  const std::string mode = choice.required_string("mode", max_name_bytes);
  if (mode != "auto" && mode != "required") {
    refuse_field(choice.path_of("mode"), mode, "\"auto\" or \"required\"");
  }
  if (mode == "required") allowed.kind = ToolChoice::Kind::required;
  const Json* tools = choice.array("tools", max_tools);
  if (tools == nullptr || tools->empty()) {
    refuse(choice.path_of("tools"), fmt::format("'{}' is missing or empty; it must hold at least "
                                                "one tool",
                                                choice.path_of("tools")));
  }
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const Fields entry((*tools)[i], fmt::format("{}[{}]", choice.path_of("tools"), i));
    allowed.allowed.push_back(chosen_name(entry, form));
  }
  return allowed;
}

}  // namespace

bool ToolChoice::allows(std::string_view tool) const {
  if (kind == Kind::named) return tool == name;
  return allowed.empty() || std::ranges::find(allowed, tool) != allowed.end();
}

ToolChoice parse_tool_choice(const Fields& body, bool has_tools, FunctionForm form) {
  using Kind = ToolChoice::Kind;
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr) return {has_tools ? Kind::automatic : Kind::none, {}, {}};
  if (*choice == "none") return {Kind::none, {}, {}};
  if (*choice == "auto") return {Kind::automatic, {}, {}};
  if (*choice == "required") return {Kind::required, {}, {}};
  if (!choice->is_object()) {
    refuse_field("tool_choice", *choice, "\"auto\", \"none\", \"required\" or an object");
  }
  const Fields fields(*choice, "tool_choice");
  if (fields.string("type", max_name_bytes) != "allowed_tools") {
    return {Kind::named, chosen_name(fields, form), {}};
  }
  if (form == FunctionForm::flat) return allowed_tools(fields, form);
  const auto inner = fields.object("allowed_tools");
  if (!inner) refuse_missing(fields.path_of("allowed_tools"));
  return allowed_tools(*inner, form);
}

void check_tool(const Json& tool, const std::string& path) {
  const Fields fields(tool, path);
  const std::string type = fields.string("type", max_name_bytes).value_or("function");
  if (type != "function") {
    refuse_unsupported(fields.path_of("type"), "only tools of type \"function\" are known");
  }
  const auto function = fields.object("function");
  if (!function) refuse_missing(fields.path_of("function"));
  const auto name = function->string("name", max_function_name_bytes);
  if (!name || name->empty()) refuse_missing(function->path_of("name"));
  if (!is_function_name(*name)) {
    refuse_field(function->path_of("name"), *name, "of letters, digits and _ - . : /");
  }
  function->string("description", max_text_bytes);
  function->object("parameters");
  function->boolean("strict");
}

const Json* find_tools(const Fields& body) { return body.array("tools", max_tools); }

void add_function(const Fields& described, std::string_view parameters_name, ToolFields& to) {
  const auto name = described.string("name", max_function_name_bytes);
  if (!name || name->empty()) refuse_missing(described.path_of("name"));
  if (!is_function_name(*name)) {
    refuse_field(described.path_of("name"), *name, "of letters, digits and _ - . : /");
  }
  if (has_tool(to, *name)) {
    refuse_field(described.path_of("name"), *name, "unlike the names of the other tools");
  }
  Json function = {{"name", *name}};
  if (auto text = described.string("description", max_text_bytes)) {
    function["description"] = std::move(*text);
  }
  if (described.object(parameters_name)) function["parameters"] = *described.find(parameters_name);
  if (const auto strict = described.boolean("strict")) function["strict"] = *strict;
  to.tools.push_back({{"type", "function"}, {"function", std::move(function)}});
}

void check_tool_choice(const ToolFields& fields, const std::string& param) {
  if (fields.must_call() && fields.tools.empty()) {
    refuse(param, fmt::format("'{}' asks for a call, but there are no 'tools'", param));
  }
  const auto check = [&](const std::string& name) {
    if (has_tool(fields, name)) return;
    refuse(param, fmt::format("'{}' names \"{}\", which is not among the 'tools'", param, name));
  };
  if (fields.choice.kind == ToolChoice::Kind::named) check(fields.choice.name);
  std::ranges::for_each(fields.choice.allowed, check);
}

ToolFields parse_tool_fields(const Fields& body) {
  ToolFields fields;
  const Json* tools = find_tools(body);
  if (tools != nullptr) {
    for (std::size_t i = 0; i < tools->size(); ++i) {
      const std::string path = fmt::format("tools[{}]", i);
      check_tool((*tools)[i], path);
      const std::string name = name_of((*tools)[i]);
      if (has_tool(fields, name)) {
        refuse_field(path + ".function.name", name, "unlike the names of the other tools");
      }
      fields.tools.push_back((*tools)[i]);
    }
  }
  fields.choice = parse_tool_choice(body, !fields.tools.empty(), FunctionForm::nested);
  fields.parallel = body.boolean("parallel_tool_calls").value_or(true);
  check_tool_choice(fields, "tool_choice");
  return fields;
}

std::vector<text::ToolFunction> callable_functions(const ToolFields& fields) {
  std::vector<text::ToolFunction> functions;
  for (const Json& tool : fields.tools) {
    const Json& function = tool.at("function");
    const auto name = function.at("name").get<std::string>();
    if (!fields.choice.allows(name)) continue;
    const Fields described(function, "");
    const Json* parameters = described.find("parameters");
    functions.push_back({name, parameters != nullptr ? to_text(*parameters) : "{}",
                         described.boolean("strict").value_or(false)});
  }
  return functions;
}

Json parse_tool_calls(const Json& calls, const std::string& path) {
  Json parsed = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Fields call(calls[i], fmt::format("{}[{}]", path, i));
    const auto function = call.object("function");
    if (!function) refuse_missing(call.path_of("function"));
    const auto name = function->string("name", max_name_bytes);
    if (!name) refuse_missing(function->path_of("name"));
    // Some clients send the object itself.
    const Json* arguments = function->find("arguments");
    std::string text = "{}";
    if (arguments != nullptr) {
      text = arguments->is_object() ? to_text(*arguments)
                                    : *function->string("arguments", max_text_bytes);
    }
    parsed.push_back({{"id", call.string("id", max_name_bytes).value_or("")},
                      {"type", "function"},
                      {"function", {{"name", *name}, {"arguments", text.empty() ? "{}" : text}}}});
  }
  return parsed;
}

}  // namespace ridge::api
