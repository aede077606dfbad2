#include "api/responses_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "api/answer.h"
#include "base/error.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_items = 4096;
constexpr std::size_t max_tool_calls = 128;
constexpr std::size_t max_name_bytes = 256;
constexpr std::size_t max_text_bytes = std::size_t{16} << 20;  // the body's own limit is lower
constexpr std::size_t max_metadata = 16;

[[noreturn]] void refuse(const std::string& path, const std::string& message) {
  throw Error(ErrorCode::invalid_argument, message, path);
}

std::string required_string(const Fields& fields, std::string_view name, std::size_t max_bytes) {
  const auto text = fields.string(name, max_bytes);
  if (!text) refuse(fields.path_of(name), fmt::format("'{}' is missing", fields.path_of(name)));
  return *text;
}

// The items of an input, as messages of a conversation and as they are listed again.
class Input {
 public:
  explicit Input(Json earlier) : messages_(std::move(earlier)) {}

  void add_text(const std::string& text) {
    add_message({{"role", "user"}, {"content", text}}, "input", {});
  }

  void add_item(const Json& value, const std::string& path) {
    const Fields item(value, path);
    const std::string id = item.string("id", max_name_bytes).value_or("");
    const std::string type = item.string("type", max_name_bytes).value_or("message");
    if (type == "message") {
      add_message(value, path, id);
    } else if (type == "function_call") {
      add_call(item, id);
    } else if (type == "function_call_output") {
      add_output(item, id);
    } else if (type == "reasoning") {  // earlier thoughts are not fed back
      Json listed = value;
      list(std::move(listed), id, "rs_");
    } else {
      refuse_unsupported(item.path_of("type"),
                         fmt::format("items of the type \"{}\" are not known here; message, "
                                     "function_call, function_call_output and reasoning are",
                                     type.substr(0, 40)));
    }
  }

  Json messages() && { return std::move(messages_); }
  std::vector<std::string> items() && { return std::move(items_); }

 private:
  void list(Json item, const std::string& id, std::string_view prefix) {
    item["id"] = id.empty() ? random_id(prefix) : id;
    items_.push_back(to_text(item));
  }

  void add_message(const Json& value, const std::string& path, const std::string& id) {
    Json message = parse_message(value, path);
    const auto role = message["role"].get<std::string>();
    if (message["content"].is_null()) message["content"] = "";
    if (role == "tool") {
      refuse(path + ".role", fmt::format("'{}.role' is \"tool\"; results of tools are items of the "
                                         "type function_call_output",
                                         path));
    }
    const std::string part = role == "assistant" ? "output_text" : "input_text";
    Json text = {{"type", part}, {"text", message["content"]}};
    if (role == "assistant") text["annotations"] = Json::array();
    list({{"id", ""},
          {"type", "message"},
          {"role", value.at("role")},
          {"status", "completed"},
          {"content", Json::array({std::move(text)})}},
         id, "msg_");
    messages_.push_back({{"role", role}, {"content", message["content"]}});
  }

  // Calls follow what their answer said, and are one message with it.
  void add_call(const Fields& item, const std::string& id) {
    const std::string call_id = required_string(item, "call_id", max_name_bytes);
    const std::string name = required_string(item, "name", max_name_bytes);
    const std::string arguments = required_string(item, "arguments", max_text_bytes);
    list({{"id", ""},
          {"type", "function_call"},
          {"call_id", call_id},
          {"name", name},
          {"arguments", arguments},
          {"status", "completed"}},
         id, "fc_");
    if (messages_.empty() || messages_.back()["role"] != "assistant") {
      messages_.push_back({{"role", "assistant"}, {"content", nullptr}});
    }
    Json& message = messages_.back();
    if (message["content"] == "") message["content"] = nullptr;
    if (!message.contains("tool_calls")) message["tool_calls"] = Json::array();
    if (message["tool_calls"].size() >= max_tool_calls) {
      refuse(item.path_of("type"),
             fmt::format("at most {} calls may follow each other", max_tool_calls));
    }
    const std::string text = arguments.empty() ? "{}" : arguments;
    message["tool_calls"].push_back({{"id", call_id},
                                     {"type", "function"},
                                     {"function", {{"name", name}, {"arguments", text}}}});
  }

  void add_output(const Fields& item, const std::string& id) {
    const std::string call_id = required_string(item, "call_id", max_name_bytes);
    const Json* output = item.find("output");
    if (output == nullptr) {
      refuse(item.path_of("output"), fmt::format("'{}' is missing", item.path_of("output")));
    }
    // Checked as a message's content is: a string, or parts of text.
    const Json as_message = {{"role", "tool"}, {"content", *output}};
    Json message = parse_message(as_message, item.path_of("output"));
    list({{"id", ""},
          {"type", "function_call_output"},
          {"call_id", call_id},
          {"output", message["content"]},
          {"status", "completed"}},
         id, "fco_");
    message["tool_call_id"] = call_id;
    if (const std::string name = name_of_call(call_id); !name.empty()) message["name"] = name;
    messages_.push_back(std::move(message));
  }

  std::string name_of_call(const std::string& call_id) const {
    for (auto message = messages_.rbegin(); message != messages_.rend(); ++message) {
      const auto calls = message->find("tool_calls");
      if (calls == message->end()) continue;
      for (const Json& call : *calls) {
        if (call["id"] == call_id) return call["function"]["name"].get<std::string>();
      }
    }
    return {};
  }

  Json messages_;
  std::vector<std::string> items_;
};

void refuse_what_is_not_done(const Fields& body) {
  if (body.boolean("background").value_or(false)) {
    refuse_unsupported("background", "responses are made while the client waits");
  }
  for (const char* name : {"conversation", "prompt"}) {
    if (body.find(name) != nullptr) {
      refuse_unsupported(name, "it is kept at OpenAI's; send 'previous_response_id' or the items");
    }
  }
  if (body.integer("top_logprobs", 0, max_top_logprobs).value_or(0) > 0) {
    refuse_unsupported("top_logprobs", "ask /v1/chat/completions for them");
  }
  const std::string truncation = body.string("truncation", max_name_bytes).value_or("disabled");
  if (truncation != "disabled") {
    refuse_unsupported("truncation", "items are never left out; use \"disabled\"");
  }
  const Json* include = body.array("include", 32);
  for (std::size_t i = 0; include != nullptr && i < include->size(); ++i) {
    if ((*include)[i] == "message.output_text.logprobs") {
      refuse_unsupported("include", "ask /v1/chat/completions for logprobs");
    }
  }
}

ToolChoice parse_choice(const Fields& body, const ToolFields& tools) {
  using Kind = ToolChoice::Kind;
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr) return {tools.tools.empty() ? Kind::none : Kind::automatic, {}};
  if (*choice == "none") return {Kind::none, {}};
  if (*choice == "auto") return {Kind::automatic, {}};
  if (*choice == "required") return {Kind::required, {}};
  if (!choice->is_object()) {
    refuse_field("tool_choice", *choice, "\"auto\", \"none\", \"required\" or an object");
  }
  const Fields fields(*choice, "tool_choice");
  const std::string type = fields.string("type", max_name_bytes).value_or("");
  if (type != "function") {
    refuse_unsupported("tool_choice.type", "only \"function\" is known");
  }
  return {Kind::named, required_string(fields, "name", max_name_bytes)};
}

ToolFields parse_tools(const Fields& body) {
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
  fields.choice = parse_choice(body, fields);
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
    refuse("previous_response_id",
           fmt::format("Previous response with id '{}' not found; it was not stored, or is no "
                       "longer kept",
                       *id));
  }
  return Json::parse(earlier->conversation);
}

void read_input(const Fields& body, const FindResponse& find_response, ResponsesRequest& request) {
  Input input(earlier_conversation(body, find_response));
  const Json* given = body.find("input");
  if (given == nullptr) {
    refuse("input", "'input' is missing; it must be a string or an array of items");
  }
  if (given->is_string()) {
    input.add_text(given->get<std::string>());
  } else if (given->is_array()) {
    if (body.array("input", max_items)->empty()) {
      refuse_field("input", *given, "a string or an array of at least one item");
    }
    for (std::size_t i = 0; i < given->size(); ++i) {
      input.add_item((*given)[i], fmt::format("input[{}]", i));
    }
  } else {
    refuse_field("input", *given, "a string or an array of items");
  }
  request.conversation = Json(std::move(input).messages());
  request.input = std::move(input).items();
  if (request.conversation.empty()) {
    refuse("input", "'input' holds nothing that can be answered");
  }
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
          {"truncation", "disabled"},
          {"user", as_given(body, "user", nullptr)}};
}

std::string query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') {
      return std::string(pair.substr(name.size() + 1));
    }
  }
  return {};
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
  request.store = fields.boolean("store").value_or(true);
  read_input(fields, find_response, request);
  chat.messages = request.conversation;
  const auto instructions = fields.string("instructions", max_text_bytes);
  if (instructions) {
    chat.messages.insert(chat.messages.begin(),
                         Json{{"role", "system"}, {"content", *instructions}});
  }
  chat.tools = parse_tools(fields);
  chat.form = parse_text_format(fields);
  chat.thinking = parse_thinking_fields(fields);
  if (const auto reasoning = fields.object("reasoning")) {
    read_effort(*reasoning, "effort", chat.thinking);
  }
  request.echo = echo_of(fields, request);
  return request;
}

Error no_such_response(std::string_view id) {
  return Error(ErrorCode::not_found,
               fmt::format("Response with id '{}' not found.", id.substr(0, 200)));
}

std::string input_items_body(const StoredResponse& response, std::string_view query) {
  const std::string order = query_value(query, "order"), after = query_value(query, "after");
  const std::string limit_text = query_value(query, "limit");
  if (!order.empty() && order != "asc" && order != "desc") {
    refuse("order", fmt::format("'order' must be asc or desc, not \"{}\"", order.substr(0, 40)));
  }
  std::size_t limit = 20;
  if (!limit_text.empty()) {
    const bool is_number =
        limit_text.size() <= 3 && limit_text.find_first_not_of("0123456789") == std::string::npos;
    limit = is_number ? std::stoul(limit_text) : 0;
    if (limit < 1 || limit > 100) refuse("limit", "'limit' must be a whole number from 1 to 100");
  }
  Json data = Json::array();
  bool has_more = false, begun = after.empty();
  const std::size_t count = response.input.size();
  for (std::size_t i = 0; i < count && !has_more; ++i) {
    Json item = Json::parse(response.input[order == "asc" ? i : count - 1 - i]);
    if (!begun) {
      begun = item["id"] == after;
    } else if (data.size() == limit) {
      has_more = true;
    } else {
      data.push_back(std::move(item));
    }
  }
  if (!begun) refuse("after", "'after' names no item of this response");
  const Json first = data.empty() ? Json(nullptr) : data.front()["id"];
  const Json last = data.empty() ? Json(nullptr) : data.back()["id"];
  return to_text({{"object", "list"},
                  {"data", std::move(data)},
                  {"first_id", first},
                  {"last_id", last},
                  {"has_more", has_more}});
}

std::string deleted_response_body(std::string_view id) {
  return to_text({{"id", id}, {"object", "response"}, {"deleted", true}});
}

}  // namespace ridge::api
