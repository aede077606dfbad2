#include "api/responses_input.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "api/chat_request.h"
#include "api/random_id.h"
#include "api/request_limits.h"

namespace ridge::api {
namespace {

// The items of an input, as messages of a conversation and as they are listed again.
class Input {
 public:
  explicit Input(Json earlier) : messages_(std::move(earlier)) {}

  void add_text(const std::string& text) {
    const Json message = {{"role", "user"}, {"content", text}};
    add_message(Fields(message, "input"), message, "input");
  }

  void add_item(const Json& value, const std::string& path) {
    const Fields item(value, path);
    const std::string type = item.string("type", max_name_bytes).value_or("message");
    if (type == "message") {
      add_message(item, value, path);
    } else if (type == "function_call") {
      add_call(item);
    } else if (type == "function_call_output") {
      add_output(item);
    } else if (type == "reasoning") {  // earlier thoughts are not fed back
      list(value, item, "rs_");
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
  // Under the id that the client gave it, unless another has it: pages begin behind an id.
  void list(Json item, const Fields& given, std::string_view prefix) {
    std::string id = given.string("id", max_name_bytes).value_or("");
    if (id.empty() || ids_.contains(id)) id = random_id(prefix);
    item["id"] = id;
    ids_.insert(std::move(id));
    items_.push_back(to_text(item));
  }

  static std::string status_of(const Fields& item) {
    const std::string status = item.string("status", max_name_bytes).value_or("completed");
    if (status != "completed" && status != "incomplete" && status != "in_progress") {
      refuse_field(item.path_of("status"), status, "completed, incomplete or in_progress");
    }
    return status;
  }

  void add_message(const Fields& item, const Json& value, const std::string& path) {
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
          {"status", status_of(item)},
          {"content", Json::array({std::move(text)})}},
         item, "msg_");
    messages_.push_back({{"role", role}, {"content", message["content"]}});
  }

  // Calls follow what their answer said, and are one message with it.
  void add_call(const Fields& item) {
    const std::string call_id = item.required_string("call_id", max_name_bytes);
    const std::string name = item.required_string("name", max_name_bytes);
    const std::string arguments = item.required_string("arguments", max_text_bytes);
    list({{"id", ""},
          {"type", "function_call"},
          {"call_id", call_id},
          {"name", name},
          {"arguments", arguments},
          {"status", status_of(item)}},
         item, "fc_");
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

  void add_output(const Fields& item) {
    const std::string call_id = item.required_string("call_id", max_name_bytes);
    const Json* output = item.find("output");
    if (output == nullptr) refuse_missing(item.path_of("output"));
    // Checked as a message's content is: a string, or parts of text.
    const Json as_message = {{"role", "tool"}, {"content", *output}};
    Json message = parse_message(as_message, item.path_of("output"));
    list({{"id", ""},
          {"type", "function_call_output"},
          {"call_id", call_id},
          {"output", message["content"]},
          {"status", status_of(item)}},
         item, "fco_");
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
  std::set<std::string> ids_;
  std::vector<std::string> items_;
};

}  // namespace

ResponsesInput parse_responses_input(const Fields& body, Json earlier) {
  Input input(std::move(earlier));
  const Json* given = body.find("input");
  if (given == nullptr) {
    refuse("input", "'input' is missing; it must be a string or an array of items");
  }
  if (given->is_string()) {
    input.add_text(given->get<std::string>());
  } else if (given->is_array()) {
    if (body.array("input", max_messages)->empty()) {
      refuse_field("input", *given, "a string or an array of at least one item");
    }
    for (std::size_t i = 0; i < given->size(); ++i) {
      input.add_item((*given)[i], fmt::format("input[{}]", i));
    }
  } else {
    refuse_field("input", *given, "a string or an array of items");
  }
  ResponsesInput read;
  read.conversation = std::move(input).messages();
  read.items = std::move(input).items();
  if (read.conversation.empty()) refuse("input", "'input' holds nothing that can be answered");
  return read;
}

}  // namespace ridge::api
