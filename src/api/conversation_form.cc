#include "api/conversation_form.h"

#include <nlohmann/json.hpp>

#include "text/chat_template.h"
#include "text/tool_prompt.h"

namespace ridge::api {
namespace {

void append_text(Json& content, const std::string& text) {
  if (!content.is_string() || content.get_ref<const std::string&>().empty()) {
    content = text;
  } else {
    content.get_ref<std::string&>().append("\n\n").append(text);
  }
}

void to_objects(Json& calls) {
  for (Json& call : calls) {
    Json& arguments = call["function"]["arguments"];
    // What an earlier answer wrote wrongly stays as it is.
    auto parsed = parse_json_object(arguments.get_ref<const std::string&>());
    if (parsed) arguments = std::move(*parsed);
  }
}

bool begins_with_system(const Json& messages) {
  return !messages.empty() && messages[0]["role"] == "system";
}

void describe_tools(Json& messages, const std::string& description) {
  if (begins_with_system(messages)) {
    append_text(messages[0]["content"], description);
  } else {
    messages.insert(messages.begin(), Json{{"role", "system"}, {"content", description}});
  }
}

// One message with the client's own, as templates take no second one.
void say_first(Json& messages, const std::string& system_prompt) {
  Json content = system_prompt;
  if (begins_with_system(messages)) {
    if (messages[0]["content"].is_string() && messages[0]["content"] != "") {
      append_text(content, messages[0]["content"].get<std::string>());
    }
    messages[0]["content"] = std::move(content);
  } else {
    messages.insert(messages.begin(), Json{{"role", "system"}, {"content", std::move(content)}});
  }
}

}  // namespace

Json messages_for_template(const ChatRequest& request, const ServedModel& model) {
  const text::ToolSupport& support = model.engine->chat_template().tool_support();
  Json messages = request.messages;
  for (Json& message : messages) {
    const auto calls = message.find("tool_calls");
    if (calls != message.end()) {
      if (!support.calls) {
        append_text(message["content"], text::write_calls(model.tool_style, *calls));
        message.erase("tool_calls");
      } else if (support.argument_objects) {
        to_objects(*calls);
      }
    }
    if (message["role"] == "tool" && !support.results) {
      message["role"] = "user";
      message["content"] =
          "<tool_response>\n" + message["content"].get<std::string>() + "\n</tool_response>";
    }
  }
  if (!model.system_prompt.empty()) say_first(messages, model.system_prompt);
  if (request.tools.may_call() && !support.tools) {
    describe_tools(messages, text::describe_tools(model.tool_style, request.tools.tools));
  }
  return messages;
}

}  // namespace ridge::api
