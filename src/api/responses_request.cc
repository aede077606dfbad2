#include "api/responses_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/request_limits.h"
#include "api/responses_input.h"
#include "base/error.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_metadata = 16;
constexpr const char* logprobs_member = "message.output_text.logprobs";  // of `include`

void refuse_what_is_not_done(const Fields& body) {
  if (body.boolean("background").value_or(false)) {
    refuse_unsupported("background", "responses are made while the client waits");
  }
  for (const char* name : {"conversation", "prompt"}) {
    if (body.find(name) != nullptr) {
      refuse_unsupported(name, "it is kept at OpenAI's; send 'previous_response_id' or the items");
    }
  }
  const std::string truncation = body.string("truncation", max_name_bytes).value_or("disabled");
  if (truncation != "disabled") {
    refuse_unsupported("truncation", "items are never left out; use \"disabled\"");
  }
  refuse_several_choices(body);
}

// Logprobs are given where `include` asks for them, or `top_logprobs` does.
int asked_logprobs(const Fields& body) {
  const auto top = body.integer("top_logprobs", 0, max_top_logprobs);
  const Json* include = body.array("include", 32);
  const bool is_included =
      include != nullptr && std::ranges::find(*include, Json(logprobs_member)) != include->end();
  return is_included || top.value_or(0) > 0 ? static_cast<int>(top.value_or(0)) : -1;
}

ToolFields parse_function_tools(const Fields& body) {
  ToolFields fields;
  fields.parameters_path = "parameters";
  const Json* tools = find_tools(body);
  for (std::size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Fields tool((*tools)[i], fmt::format("tools[{}]", i));
    const std::string type = tool.string("type", max_name_bytes).value_or("");
    if (type != "function") {
      refuse_unsupported(tool.path_of("type"), "only tools of type \"function\" are known");
    }
    add_function(tool, "parameters", fields);
  }
  fields.choice = parse_tool_choice(body, !fields.tools.empty(), FunctionForm::flat);
  fields.parallel = body.boolean("parallel_tool_calls").value_or(true);
  check_tool_choice(fields, "tool_choice");
  return fields;
}

OutputForm parse_text_format(const Fields& body) {
  const auto text = body.object("text");
  if (!text) return {};
  const auto format = text->object("format");
  if (!format) return {};
  const std::string type = format->string("type", max_name_bytes).value_or("");
  if (type == "text") return {};
  if (type == "json_object") {
    return {schema_grammar({{"type", "object"}}, /*strict=*/true), "text.format"};
  }
  if (type != "json_schema") {
    const Json* given = format->find("type");
    refuse_field("text.format.type", given ? *given : Json(),
                 "\"text\", \"json_object\" or \"json_schema\"");
  }
  if (!format->object("schema")) refuse_field("text.format.schema", Json(), "a JSON schema");
  const bool strict = format->boolean("strict").value_or(false);
  return {schema_grammar(*format->find("schema"), strict), "text.format.schema"};
}

Json parse_metadata(const Fields& body) {
  if (!body.object("metadata")) return Json::object();
  const Json& metadata = *body.find("metadata");
  if (metadata.size() > max_metadata) {
    refuse_field("metadata", metadata, fmt::format("of at most {} members", max_metadata));
  }
  for (const auto& [key, value] : metadata.get_ref<const Json::object_t&>()) {
    if (!value.is_string() || value.get_ref<const std::string&>().size() > 512) {
      refuse_field("metadata." + key.substr(0, 64), value, "a string of at most 512 bytes");
    }
  }
  return metadata;
}

Json earlier_conversation(const Fields& body, const FindResponse& find_response) {
  const auto id = body.string("previous_response_id", max_name_bytes);
  if (!id) return Json::array();
  const auto earlier = find_response(*id);
  if (!earlier) {
    throw Error(ErrorCode::not_found,
                fmt::format("Previous response with id '{}' not found; it was not stored, or is no "
                            "longer kept",
                            *id),
                "previous_response_id");
  }
  return Json::parse(earlier->conversation);
}

Json as_given(const Fields& body, std::string_view name, Json otherwise) {
  const Json* value = body.find(name);
  return value != nullptr ? *value : otherwise;
}

Json echo_of(const Fields& body, const ResponsesRequest& request) {
  Json effort = nullptr;
  const auto& variables = request.chat.thinking.variables;
  if (const auto found = variables.find("reasoning_effort"); found != variables.end()) {
    effort = *found;
  }
  const auto& max_tokens = request.chat.generation.max_tokens;
  return {{"instructions", as_given(body, "instructions", nullptr)},
          {"max_output_tokens", max_tokens ? Json(*max_tokens) : Json(nullptr)},
          {"metadata", parse_metadata(body)},
          {"parallel_tool_calls", request.chat.tools.parallel},
          {"previous_response_id", as_given(body, "previous_response_id", nullptr)},
          {"reasoning", {{"effort", effort}, {"summary", nullptr}}},
          {"store", request.store},
          {"text", as_given(body, "text", {{"format", {{"type", "text"}}}})},
          {"tool_choice", as_given(body, "tool_choice", "auto")},
          {"tools", as_given(body, "tools", Json::array())},
          {"top_logprobs", std::max(0, request.chat.top_logprobs)},
          {"truncation", "disabled"},
          {"user", as_given(body, "user", nullptr)}};
}

}  // namespace

ResponsesRequest parse_responses_request(const Json& body, const FindResponse& find_response) {
  const Fields fields(body, "");
  refuse_what_is_not_done(fields);
  ResponsesRequest request;
  ChatRequest& chat = request.chat;
  chat.prompt_param = "input";
  chat.generation.model = parse_model_name(fields);
  read_sampling(fields, chat.generation);
  chat.generation.stream = fields.boolean("stream").value_or(false);
  const auto max_tokens = fields.integer("max_output_tokens", 1, max_requested_tokens);
  if (max_tokens) chat.generation.max_tokens = static_cast<int>(*max_tokens);
  check_token_bounds(chat.generation);
  chat.generation.timeout = parse_timeout(fields);
  chat.top_logprobs = asked_logprobs(fields);
  request.store = fields.boolean("store").value_or(true);
  ResponsesInput input = parse_responses_input(fields, earlier_conversation(fields, find_response));
  request.conversation = std::move(input.conversation);
  request.input = std::move(input.items);
  chat.messages = request.conversation;
  const auto instructions = fields.string("instructions", max_text_bytes);
  if (instructions && !instructions->empty()) {
    chat.messages.insert(chat.messages.begin(),
                         Json{{"role", "system"}, {"content", *instructions}});
  }
  chat.tools = parse_function_tools(fields);
  chat.form = parse_text_format(fields);
  chat.thinking = parse_thinking_fields(fields);
  if (const auto reasoning = fields.object("reasoning")) {
    read_effort(*reasoning, "effort", chat.thinking);
  }
  request.echo = echo_of(fields, request);
  return request;
}

}  // namespace ridge::api
