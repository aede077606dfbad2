#include "api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/reasoning.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_messages = 4096;
constexpr std::size_t max_parts = 4096;
constexpr std::size_t max_tools = 128;
constexpr std::size_t max_tool_calls = 128;
constexpr std::size_t max_name_bytes = 256;
constexpr std::size_t max_content_bytes = std::size_t{16} << 20;  // the body's own limit is lower
constexpr std::array<std::string_view, 5> roles = {"system", "developer", "user", "assistant",
                                                   "tool"};
constexpr std::array<std::string_view, 3> template_variables = {"enable_thinking", "thinking",
                                                                "reasoning_effort"};
constexpr std::array<std::string_view, 6> efforts = {"none",   "minimal", "low",
                                                     "medium", "high",    "xhigh"};

[[noreturn]] void refuse(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::invalid_argument, message, path);
}

bool contains(auto const& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string text_of_part(const Json& part, const std::string& path) {
  const Fields fields(part, path);
  const std::string type = fields.string("type", max_name_bytes).value_or("");
  if (type != "text" && type != "input_text" && type != "output_text") {
    refuse_unsupported(
        fields.path_of("type"),
        fmt::format("this model reads text only; \"{}\" parts must be left out", type));
  }
  const auto text = fields.string("text", max_content_bytes);
  if (!text) refuse(fields.path_of("text"), fmt::format("'{}' is missing", fields.path_of("text")));
  return *text;
}

// Nullopt where there is none.
std::optional<std::string> parse_content(const Fields& message) {
  const Json* content = message.find("content");
  const std::string path = message.path_of("content");
  if (content == nullptr) return std::nullopt;
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) refuse_field(path, *content, "a string or an array of text parts");
  message.array("content", max_parts);
  std::string text;
  for (std::size_t i = 0; i < content->size(); ++i) {
    if (i > 0) text += '\n';
    text += text_of_part((*content)[i], fmt::format("{}[{}]", path, i));
  }
  return text;
}

// An answer that still carries its thoughts in tags,
// as clients that know no reasoning field send it.
std::string without_reasoning(std::string content) {
  const std::size_t start = content.find_first_not_of(" \t\r\n");
  if (start == std::string::npos || !content.substr(start).starts_with(text::think_open_tag)) {
    return content;
  }
  const std::size_t close = content.find(text::think_close_tag);
  if (close == std::string::npos) return content;
  const std::size_t rest = content.find_first_not_of("\r\n", close + text::think_close_tag.size());
  return rest == std::string::npos ? std::string() : content.substr(rest);
}

Json parse_tool_calls(const Json& calls, const std::string& path) {
  Json parsed = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Fields call(calls[i], fmt::format("{}[{}]", path, i));
    const auto function = call.object("function");
    if (!function)
      refuse(call.path_of("function"), fmt::format("'{}' is missing", call.path_of("function")));
    const auto name = function->string("name", max_name_bytes);
    if (!name)
      refuse(function->path_of("name"), fmt::format("'{}' is missing", function->path_of("name")));
    const std::string arguments = function->string("arguments", max_content_bytes).value_or("{}");
    parsed.push_back({{"id", call.string("id", max_name_bytes).value_or("")},
                      {"type", "function"},
                      {"function", {{"name", *name}, {"arguments", arguments}}}});
  }
  return parsed;
}

Json parse_message(const Json& value, const std::string& path) {
  const Fields fields(value, path);
  const std::string role = fields.string("role", max_name_bytes).value_or("");
  if (!contains(roles, role)) {
    refuse(fields.path_of("role"),
           fmt::format("'{}' is \"{}\"; it must be one of system, developer, user, assistant, tool",
                       fields.path_of("role"), role.substr(0, 40)));
  }
  Json message = {{"role", role == "developer" ? "system" : role}};
  std::optional<std::string> content = parse_content(fields);
  const Json* calls = fields.array("tool_calls", max_tool_calls);
  const bool has_calls = role == "assistant" && calls != nullptr && !calls->empty();
  if (!content && !has_calls) {
    refuse(fields.path_of("content"), fmt::format("'{}' is missing", fields.path_of("content")));
  }
  if (content && role == "assistant") content = without_reasoning(std::move(*content));
  message["content"] = content ? Json(std::move(*content)) : Json(nullptr);
  if (has_calls) message["tool_calls"] = parse_tool_calls(*calls, fields.path_of("tool_calls"));
  for (const char* name : {"name", "tool_call_id"}) {
    if (auto text = fields.string(name, max_name_bytes)) message[name] = std::move(*text);
  }
  return message;
}

Json parse_messages(const Fields& body) {
  const Json* messages = body.array("messages", max_messages);
  if (messages == nullptr || messages->empty()) {
    refuse("messages", "'messages' is missing or empty; it must hold at least one message");
  }
  Json parsed = Json::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    parsed.push_back(parse_message((*messages)[i], fmt::format("messages[{}]", i)));
  }
  return parsed;
}

void check_tool(const Json& tool, const std::string& path) {
  const Fields fields(tool, path);
  const std::string type = fields.string("type", max_name_bytes).value_or("function");
  if (type != "function") {
    refuse_unsupported(fields.path_of("type"), "only tools of type \"function\" are known");
  }
  const auto function = fields.object("function");
  if (!function)
    refuse(fields.path_of("function"), fmt::format("'{}' is missing", fields.path_of("function")));
  if (function->string("name", max_name_bytes).value_or("").empty()) {
    refuse(function->path_of("name"), fmt::format("'{}' is missing", function->path_of("name")));
  }
  function->string("description", max_content_bytes);
  function->object("parameters");
}

std::optional<Json> parse_tools(const Fields& body) {
  const Json* tools = body.array("tools", max_tools);
  if (tools != nullptr) {
    for (std::size_t i = 0; i < tools->size(); ++i)
      check_tool((*tools)[i], fmt::format("tools[{}]", i));
  }
  const Json* choice = body.find("tool_choice");
  const bool chooses = choice != nullptr && *choice != "auto";
  if (chooses && *choice != "none") {
    if (!choice->is_object() && *choice != "required") {
      refuse_field("tool_choice", *choice, "\"auto\", \"none\", \"required\" or an object");
    }
    refuse_unsupported("tool_choice", "a tool cannot be forced yet; use \"auto\" or \"none\"");
  }
  if (tools == nullptr || tools->empty() || chooses) return std::nullopt;
  return *tools;
}

void check_response_format(const Fields& body) {
  const auto format = body.object("response_format");
  if (!format) return;
  const std::string type = format->string("type", max_name_bytes).value_or("");
  if (type == "text") return;
  if (type == "json_object" || type == "json_schema") {
    refuse_unsupported("response_format", "only {\"type\": \"text\"} is supported yet");
  }
  refuse_field("response_format.type", format->find("type") ? *format->find("type") : Json(),
               "\"text\", \"json_object\" or \"json_schema\"");
}

void refuse_what_is_no_text(const Fields& body) {
  for (const char* name : {"functions", "function_call"}) {
    if (body.find(name) != nullptr) refuse_unsupported(name, "it is out of date; use 'tools'");
  }
  if (body.find("audio") != nullptr) refuse_unsupported("audio", "this model writes text only");
  const Json* modalities = body.array("modalities", 8);
  if (modalities == nullptr) return;
  for (const Json& modality : *modalities) {
    if (modality != "text") refuse_unsupported("modalities", "this model writes text only");
  }
}

// Names are allowed one by one, since a template may do anything with what it is given.
void add_template_kwargs(const Fields& body, Json& variables) {
  const auto kwargs = body.object("chat_template_kwargs");
  if (!kwargs) return;
  for (const auto& [key, value] :
       body.find("chat_template_kwargs")->get_ref<const Json::object_t&>()) {
    if (!contains(template_variables, key)) {
      refuse(fmt::format("chat_template_kwargs.{}", key.substr(0, 40)),
             "'chat_template_kwargs' may hold enable_thinking, thinking and reasoning_effort only");
    }
    if (key == "reasoning_effort") {
      kwargs->string(key, max_name_bytes);
    } else {
      kwargs->boolean(key);
    }
    if (!value.is_null()) variables[key] = value;
  }
}

void set_thinking(Json& variables, bool enabled) {
  variables["enable_thinking"] = enabled;
  variables["thinking"] = enabled;
}

// {"type": "enabled" | "disabled"}, as DeepSeek's, Anthropic's and Huawei's services have it.
void add_thinking(const Fields& body, Json& variables) {
  const auto thinking = body.object("thinking");
  if (!thinking) return;
  const std::string type = thinking->string("type", max_name_bytes).value_or("");
  if (type != "enabled" && type != "disabled" && type != "auto" && type != "adaptive") {
    refuse("thinking.type", "'thinking.type' must be \"enabled\", \"disabled\" or \"auto\"");
  }
  if (type == "enabled" || type == "disabled") set_thinking(variables, type == "enabled");
}

void add_reasoning_effort(const Fields& body, Json& variables) {
  const Json* value = body.find("reasoning_effort");
  if (value == nullptr) return;
  if (!value->is_string() || !contains(efforts, value->get_ref<const std::string&>())) {
    refuse_field("reasoning_effort", *value, "one of none, minimal, low, medium, high, xhigh");
  }
  variables["reasoning_effort"] = *value;
  if (*value == "none") set_thinking(variables, false);
}

// What is said closest to the template wins.
std::optional<Json> parse_variables(const Fields& body) {
  Json variables = Json::object();
  add_reasoning_effort(body, variables);
  add_thinking(body, variables);
  add_template_kwargs(body, variables);
  if (variables.empty()) return std::nullopt;
  return variables;
}

int parse_top_logprobs(const Fields& body) {
  const bool wanted = body.boolean("logprobs").value_or(false);
  const auto top = body.integer("top_logprobs", 0, max_top_logprobs);
  if (!wanted && top.value_or(0) > 0) {
    refuse("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  }
  return wanted ? static_cast<int>(top.value_or(0)) : -1;
}

}  // namespace

ChatRequest parse_chat_request(const Json& body) {
  const Fields fields(body, "");
  refuse_what_is_no_text(fields);
  check_response_format(fields);
  ChatRequest request;
  request.generation = parse_generation_fields(fields);
  request.top_logprobs = parse_top_logprobs(fields);
  request.messages = parse_messages(fields);
  request.tools = parse_tools(fields);
  request.variables = parse_variables(fields);
  return request;
}

}  // namespace ridge::api
