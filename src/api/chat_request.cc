#include "api/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "api/request_limits.h"
#include "base/trimmed.h"
#include "text/reasoning.h"

namespace ridge::api {
namespace {

constexpr std::array<std::string_view, 5> roles = {"system", "developer", "user", "assistant",
                                                   "tool"};

std::string text_of_part(const Json& part, const std::string& path) {
  const Fields fields(part, path);
  const std::string type = fields.string("type", max_name_bytes).value_or("");
  if (type != "text" && type != "input_text" && type != "output_text") {
    refuse_unsupported(
        fields.path_of("type"),
        fmt::format("this model reads text only; \"{}\" parts must be left out", type));
  }
  return fields.required_string("text", max_text_bytes);
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
  const std::size_t start = content.find_first_not_of(white_space);
  if (start == std::string::npos || !content.substr(start).starts_with(text::think_open_tag)) {
    return content;
  }
  const std::size_t close = content.find(text::think_close_tag);
  if (close == std::string::npos) return content;
  const std::size_t rest = content.find_first_not_of("\r\n", close + text::think_close_tag.size());
  return rest == std::string::npos ? std::string() : content.substr(rest);
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

}  // namespace

Json parse_message(const Json& value, const std::string& path) {
  const Fields fields(value, path);
  const std::string role = fields.string("role", max_name_bytes).value_or("");
  if (std::ranges::find(roles, role) == roles.end()) {
    refuse(fields.path_of("role"),
           fmt::format("'{}' is \"{}\"; it must be one of system, developer, user, assistant, tool",
                       fields.path_of("role"), role.substr(0, 40)));
  }
  Json message = {{"role", role == "developer" ? "system" : role}};
  std::optional<std::string> content = parse_content(fields);
  const Json* calls = fields.array("tool_calls", max_tool_calls);
  const bool has_calls = role == "assistant" && calls != nullptr && !calls->empty();
  if (!content && !has_calls) refuse_missing(fields.path_of("content"));
  if (content && role == "assistant") content = without_reasoning(std::move(*content));
  // Templates ask whether there is content, and some write calls only where there is none.
  const bool has_content = content && !(has_calls && content->empty());
  message["content"] = has_content ? Json(std::move(*content)) : Json(nullptr);
  if (has_calls) message["tool_calls"] = parse_tool_calls(*calls, fields.path_of("tool_calls"));
  for (const char* name : {"name", "tool_call_id"}) {
    if (auto text = fields.string(name, max_name_bytes)) message[name] = std::move(*text);
  }
  return message;
}

ChatRequest parse_chat_request(const Json& body) {
  const Fields fields(body, "");
  refuse_what_is_no_text(fields);
  ChatRequest request;
  request.generation = parse_generation_fields(fields);
  request.top_logprobs = parse_top_logprobs(fields);
  request.messages = parse_messages(fields);
  request.tools = parse_tool_fields(fields);
  request.form = parse_output_form(fields);
  request.thinking = parse_thinking_fields(fields);
  return request;
}

}  // namespace ridge::api
