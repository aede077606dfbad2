#include "api/anthropic_request.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "api/request_limits.h"
#include "base/error.h"

namespace ridge::api {
namespace {

void append_line(std::string& text, std::string_view more) {
  if (!text.empty()) text += '\n';
  text += more;
}

[[noreturn]] void refuse_block(const Fields& block, std::string_view type) {
  if (type.empty()) {
    refuse_missing(block.path_of("type"));
  }
  if (type == "image" || type == "document") {
    refuse_unsupported(
        block.path_of("type"),
        fmt::format("this model reads text only; \"{}\" blocks must be left out", type));
  }
  refuse_unsupported(block.path_of("type"),
                     fmt::format("\"{}\" blocks are not known here", type.substr(0, 40)));
}

// A string, or blocks of text, joined by newlines. "" where there is none.
std::string text_of(const Fields& parent, std::string_view name) {
  const Json* value = parent.find(name);
  if (value == nullptr) return {};
  const std::string path = parent.path_of(name);
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) refuse_field(path, *value, "a string or an array of blocks");
  parent.array(name, max_parts);
  std::string text;
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Fields block((*value)[i], fmt::format("{}[{}]", path, i));
    const std::string type = block.string("type", max_name_bytes).value_or("");
    if (type != "text") refuse_block(block, type);
    append_line(text, block.required_string("text", max_text_bytes));
  }
  return text;
}

// The turns of a conversation as chat completions have them: results of tools are messages of
// their own there.
class Conversation {
 public:
  void add_system(std::string text) {
    if (!text.empty()) messages_.push_back({{"role", "system"}, {"content", std::move(text)}});
  }

  void add_message(const Json& value, const std::string& path) {
    const Fields message(value, path);
    const std::string role = message.string("role", max_name_bytes).value_or("");
    if (role != "user" && role != "assistant" && role != "system") {
      refuse(message.path_of("role"), fmt::format("'{}' is \"{}\"; it must be user or assistant",
                                                  message.path_of("role"), role.substr(0, 40)));
    }
    const Json* content = message.find("content");
    if (content == nullptr) refuse_missing(message.path_of("content"));
    if (content->is_string()) {
      say(role, content->get<std::string>());
    } else if (role == "assistant") {
      add_answer(message, *content);
    } else {
      add_question(message, *content, role);
    }
  }

  Json take() { return std::move(messages_); }
  bool ends_with_assistant() const {
    return !messages_.empty() && messages_.back()["role"] == "assistant";
  }

 private:
  // Turns of one side that follow each other are one turn.
  void say(const std::string& role, std::string text) {
    if (!messages_.empty() && messages_.back()["role"] == role &&
        messages_.back()["content"].is_string() && !messages_.back().contains("tool_calls")) {
      append_line(messages_.back()["content"].get_ref<std::string&>(), text);
    } else {
      messages_.push_back({{"role", role}, {"content", std::move(text)}});
    }
  }

  const Json& blocks_of(const Fields& message, const Json& content) const {
    if (!content.is_array()) {
      refuse_field(message.path_of("content"), content, "a string or an array of blocks");
    }
    message.array("content", max_parts);
    return content;
  }

  void add_question(const Fields& message, const Json& content, const std::string& role) {
    std::string text;
    bool has_text = false;
    for (std::size_t i = 0; i < blocks_of(message, content).size(); ++i) {
      const Fields block(content[i], fmt::format("{}[{}]", message.path_of("content"), i));
      const std::string type = block.string("type", max_name_bytes).value_or("");
      if (type == "text") {
        append_line(text, block.required_string("text", max_text_bytes));
        has_text = true;
      } else if (type == "tool_result" && role == "user") {
        if (has_text) say(role, std::exchange(text, {}));
        has_text = false;
        add_result(block);
      } else {
        refuse_block(block, type);
      }
    }
    if (has_text) say(role, std::move(text));
  }

  void add_result(const Fields& block) {
    const std::string id = block.required_string("tool_use_id", max_name_bytes);
    std::string text = text_of(block, "content");
    if (block.boolean("is_error").value_or(false)) text = "Error: " + text;
    Json result = {{"role", "tool"}, {"content", std::move(text)}, {"tool_call_id", id}};
    if (const auto name = called_.find(id); name != called_.end()) result["name"] = name->second;
    messages_.push_back(std::move(result));
  }

  void add_answer(const Fields& message, const Json& content) {
    std::string text;
    Json calls = Json::array();
    for (std::size_t i = 0; i < blocks_of(message, content).size(); ++i) {
      const Fields block(content[i], fmt::format("{}[{}]", message.path_of("content"), i));
      const std::string type = block.string("type", max_name_bytes).value_or("");
      if (type == "text") {
        append_line(text, block.required_string("text", max_text_bytes));
      } else if (type == "tool_use") {
        calls.push_back(call_of(block));
      } else if (type != "thinking" && type != "redacted_thinking") {  // not fed back
        refuse_block(block, type);
      }
    }
    if (calls.empty()) {
      say("assistant", std::move(text));
      return;
    }
    // Templates ask whether there is content, and some write calls only where there is none.
    messages_.push_back({{"role", "assistant"},
                         {"content", text.empty() ? Json(nullptr) : Json(std::move(text))},
                         {"tool_calls", std::move(calls)}});
  }

  Json call_of(const Fields& block) {
    const std::string id = block.required_string("id", max_name_bytes);
    const std::string name = block.required_string("name", max_name_bytes);
    const bool has_input = block.object("input").has_value();
    called_[id] = name;
    return {{"id", id},
            {"type", "function"},
            {"function",
             {{"name", name}, {"arguments", has_input ? to_text(*block.find("input")) : "{}"}}}};
  }

  Json messages_ = Json::array();
  std::map<std::string, std::string> called_;  // names by id
};

Json parse_conversation(const Fields& body) {
  Conversation conversation;
  conversation.add_system(text_of(body, "system"));
  const Json* messages = body.array("messages", max_messages);
  if (messages == nullptr || messages->empty()) {
    refuse("messages", "'messages' is missing or empty; it must hold at least one message");
  }
  for (std::size_t i = 0; i < messages->size(); ++i) {
    conversation.add_message((*messages)[i], fmt::format("messages[{}]", i));
  }
  if (conversation.ends_with_assistant()) {
    refuse_unsupported("messages",
                       "an answer that is begun cannot be continued here; the last message must "
                       "be the user's");
  }
  return conversation.take();
}

ToolChoice parse_choice(const Fields& body, ToolFields& tools) {
  using Kind = ToolChoice::Kind;
  const auto choice = body.object("tool_choice");
  if (!choice) return {tools.tools.empty() ? Kind::none : Kind::automatic, {}, {}};
  tools.parallel = !choice->boolean("disable_parallel_tool_use").value_or(false);
  const std::string type = choice->string("type", max_name_bytes).value_or("");
  if (type == "auto") return {Kind::automatic, {}, {}};
  if (type == "none") return {Kind::none, {}, {}};
  if (type == "any") return {Kind::required, {}, {}};
  if (type == "tool") return {Kind::named, choice->required_string("name", max_name_bytes), {}};
  const Json* given = choice->find("type");
  refuse_field("tool_choice.type", given ? *given : Json(),
               "\"auto\", \"any\", \"tool\" or \"none\"");
}

ToolFields parse_anthropic_tools(const Fields& body) {
  ToolFields fields;
  fields.parameters_path = "input_schema";
  const Json* tools = find_tools(body);
  for (std::size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Fields tool((*tools)[i], fmt::format("tools[{}]", i));
    const std::string type = tool.string("type", max_name_bytes).value_or("custom");
    if (type != "custom") {
      refuse_unsupported(tool.path_of("type"),
                         fmt::format("\"{}\" runs at Anthropic's; only tools of your own with an "
                                     "input_schema are known here",
                                     type));
    }
    add_function(tool, "input_schema", fields);
  }
  fields.choice = parse_choice(body, fields);
  check_tool_choice(fields, "tool_choice");
  return fields;
}

// {"type": "json_schema", "schema": …}, which is always enforced.
OutputForm parse_form(const Fields& parent, std::string_view name) {
  const auto format = parent.object(name);
  if (!format) return {};
  const std::string type = format->string("type", max_name_bytes).value_or("");
  if (type != "json_schema") refuse_unsupported(format->path_of("type"), "use \"json_schema\"");
  if (!format->object("schema")) refuse_field(format->path_of("schema"), Json(), "a JSON schema");
  return {schema_grammar(*format->find("schema"), /*strict=*/true), format->path_of("schema")};
}

ChatRequest parse_chat(const Fields& body) {
  ChatRequest chat;
  chat.generation.model = parse_model_name(body);
  read_sampling(body, chat.generation);
  refuse_several_choices(body);
  for (const char* name : {"logprobs", "top_logprobs"}) {
    const Json* value = body.find(name);
    if (value == nullptr || *value == false) continue;
    refuse_unsupported(name, "messages have no place for them; ask /v1/chat/completions");
  }
  chat.generation.timeout = parse_timeout(body);
  chat.generation.stop = parse_stop(body, "stop_sequences");
  chat.generation.stream = body.boolean("stream").value_or(false);
  chat.messages = parse_conversation(body);
  chat.tools = parse_anthropic_tools(body);
  chat.thinking = parse_thinking_fields(body);
  chat.form = parse_form(body, "output_format");
  if (const auto output = body.object("output_config")) {
    read_effort(*output, "effort", chat.thinking);
    if (output->find("format") != nullptr) chat.form = parse_form(*output, "format");
  }
  return chat;
}

}  // namespace

AnthropicRequest parse_anthropic_request(const Json& body) {
  const Fields fields(body, "");
  AnthropicRequest request;
  request.chat = parse_chat(fields);
  const auto max_tokens = fields.integer("max_tokens", 1, max_requested_tokens);
  if (!max_tokens) refuse_missing("max_tokens");
  request.chat.generation.max_tokens = static_cast<int>(*max_tokens);
  check_token_bounds(request.chat.generation);
  if (const auto thinking = fields.object("thinking")) {
    request.hides_thinking = thinking->string("display", max_name_bytes) == "omitted";
  }
  return request;
}

ChatRequest parse_count_tokens_request(const Json& body) { return parse_chat(Fields(body, "")); }

std::string token_count_body(int tokens) { return fmt::format("{{\"input_tokens\":{}}}", tokens); }

}  // namespace ridge::api
