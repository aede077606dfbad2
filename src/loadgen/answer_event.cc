#include "loadgen/answer_event.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::loadgen {
namespace {

using Json = nlohmann::json;

// The member where it is there and of the kind that is asked for, else nothing.
const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

bool has_string(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value != nullptr && value->is_string() && !value->get_ref<const std::string&>().empty();
}

std::string string_of(const Json& object, const char* name) {
  return has_string(object, name) ? member(object, name)->get<std::string>() : std::string();
}

int tokens_of(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value != nullptr && value->is_number_integer() ? value->get<int>() : -1;
}

Usage usage_of(const Json& body) {
  Usage usage;
  usage.prompt_tokens = tokens_of(body, "prompt_tokens");
  usage.output_tokens = tokens_of(body, "completion_tokens");
  if (const Json* details = member(body, "prompt_tokens_details")) {
    usage.cached_tokens = tokens_of(*details, "cached_tokens");
  }
  return usage;
}

bool has_text(const Json& choice) {
  if (has_string(choice, "text")) return true;
  const Json* delta = member(choice, "delta");
  if (delta == nullptr) return false;
  const Json* calls = member(*delta, "tool_calls");
  return has_string(*delta, "content") || has_string(*delta, "reasoning_content") ||
         has_string(*delta, "reasoning") || (calls != nullptr && !calls->empty());
}

// {"error": {"code": ..., "type": ..., "message": ...}}, or {"error": "words"}.
std::string name_of_error(const Json& body) {
  const Json* error = member(body, "error");
  if (error == nullptr) return {};
  if (error->is_string()) return error->get<std::string>();
  for (const char* name : {"code", "type", "message"}) {
    if (has_string(*error, name)) return string_of(*error, name);
  }
  return "error";
}

Json parsed(std::string_view text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace

AnswerEvent read_answer_event(std::string_view data) {
  AnswerEvent event;
  if (data == "[DONE]") {
    event.is_last = true;
    return event;
  }
  const Json body = parsed(data);
  if (!body.is_object()) {
    throw Error(ErrorCode::invalid_argument, "an event of the stream holds no JSON object");
  }
  event.error = name_of_error(body);
  if (const Json* usage = member(body, "usage")) event.usage = usage_of(*usage);
  const Json* choices = member(body, "choices");
  if (choices == nullptr || !choices->is_array()) return event;
  for (const Json& choice : *choices) {
    if (has_text(choice)) event.has_text = true;
    if (has_string(choice, "finish_reason")) event.finished = true;
  }
  return event;
}

Usage read_usage(std::string_view document) {
  const Json body = parsed(document);
  const Json* usage = member(body, "usage");
  return usage == nullptr ? Usage{} : usage_of(*usage);
}

std::string error_name(std::string_view document) { return name_of_error(parsed(document)); }

std::string error_message(std::string_view document) {
  const Json body = parsed(document);
  const Json* error = member(body, "error");
  if (error == nullptr) return {};
  return has_string(*error, "message") ? string_of(*error, "message") : name_of_error(body);
}

}  // namespace ridge::loadgen
