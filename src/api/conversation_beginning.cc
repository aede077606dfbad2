#include "api/conversation_beginning.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ridge::api {
namespace {

constexpr std::size_t most_text_bytes = 4096;     // of each text
constexpr std::size_t most_prompt_bytes = 1024;   // of a completion's, which may grow at its end
constexpr std::size_t most_prompt_tokens = 256;

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::string string_member(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

// A string, or parts that have texts: written either way, it is the same.
std::string text_of(const Json* content) {
  if (content == nullptr) return {};
  if (content->is_string()) return content->get<std::string>();
  std::string text;
  if (!content->is_array()) return text;
  for (const Json& part : *content) {
    if (&part != &content->front()) text += '\n';
    text += string_member(part, "text");
    if (text.size() > most_text_bytes) break;
  }
  return text;
}

class Beginning {
 public:
  void say(std::string_view role, std::string_view text) {
    text_ += role;
    text_ += '\0';
    text_ += text.substr(0, most_text_bytes);
    text_ += '\0';
  }
  // Up to the first message of the user's. False where there is none.
  bool say_messages(const Json* messages) {
    if (messages == nullptr || !messages->is_array()) return false;
    for (const Json& message : *messages) {
      const std::string role = string_member(message, "role");
      say(role == "developer" ? "system" : role, text_of(member(message, "content")));
      if (role == "user") return true;
    }
    return false;
  }
  // Of /v1/responses.
  void say_input(const Json& input) {
    if (input.is_string()) {
      say("user", input.get_ref<const std::string&>());
    } else {
      say_messages(&input);
    }
  }
  // Of a completion.
  void say_prompt(const Json& prompt) {
    const bool has_several = prompt.is_array() && !prompt.empty() && !prompt.front().is_number();
    const Json& first = has_several ? prompt.front() : prompt;
    if (first.is_string()) {
      say("", std::string_view(first.get_ref<const std::string&>()).substr(0, most_prompt_bytes));
    } else if (first.is_array()) {
      const auto end = first.begin() +
                       static_cast<std::ptrdiff_t>(std::min(first.size(), most_prompt_tokens));
      say("", to_text(Json(first.begin(), end)));
    }
  }

  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

// The conversation of the response that this one follows; empty where there is none.
Json earlier_conversation(const Json& body, const FindResponse& find_response) {
  const std::string id = string_member(body, "previous_response_id");
  if (id.empty()) return {};
  const auto earlier = find_response(id);
  return earlier ? Json::parse(earlier->conversation) : Json();
}

}  // namespace

std::string conversation_beginning(const Json& body, const FindResponse& find_response) {
  Beginning beginning;
  if (const std::string system = text_of(member(body, "system")); !system.empty()) {
    beginning.say("system", system);
  }
  if (const Json* input = member(body, "input")) {
    const Json earlier = earlier_conversation(body, find_response);
    if (!beginning.say_messages(&earlier)) beginning.say_input(*input);
  } else if (const Json* prompt = member(body, "prompt")) {
    beginning.say_prompt(*prompt);
  } else {
    beginning.say_messages(member(body, "messages"));
  }
  return beginning.take();
}

}  // namespace ridge::api
