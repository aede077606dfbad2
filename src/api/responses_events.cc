#include "api/responses_events.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

namespace ridge::api {
namespace {

Json in_item(const ResponseEvents::Item& item) {
  return {{"item_id", item.id}, {"output_index", item.index}};
}

Json in_content(const ResponseEvents::Item& item) {
  Json members = in_item(item);
  members["content_index"] = 0;
  return members;
}

ResponseEvents::Item name_of(std::size_t index, const Json& item) {
  return {.type = item.at("type").get_ref<const std::string&>(),
          .id = item.at("id").get_ref<const std::string&>(),
          .index = index};
}

}  // namespace

Json response_content(std::string_view item_type, std::string_view text, Json logprobs) {
  if (item_type == "reasoning") return {{"type", "reasoning_text"}, {"text", text}};
  return {{"type", "output_text"},
          {"text", text},
          {"annotations", Json::array()},
          {"logprobs", std::move(logprobs)}};
}

void ResponseEvents::begin(std::string& out, const Json& response) {
  append(out, "response.created", {{"response", response}});
  append(out, "response.in_progress", {{"response", response}});
}

void ResponseEvents::open(std::string& out, std::size_t index, const Json& item) {
  const Item name = name_of(index, item);
  append(out, "response.output_item.added", {{"output_index", index}, {"item", item}});
  if (name.type == "function_call") return;
  Json members = in_content(name);
  members["part"] = response_content(name.type, "", Json::array());
  append(out, "response.content_part.added", members);
}

void ResponseEvents::extend(std::string& out, const Item& item, std::string_view piece,
                            const Json& logprobs) {
  Json members = item.type == "function_call" ? in_item(item) : in_content(item);
  members["delta"] = piece;
  if (item.type == "function_call") {
    append(out, "response.function_call_arguments.delta", members);
  } else if (item.type == "reasoning") {
    append(out, "response.reasoning_text.delta", members);
  } else {
    members["logprobs"] = logprobs;
    append(out, "response.output_text.delta", members);
  }
}

void ResponseEvents::close(std::string& out, std::size_t index, const Json& item) {
  const Item name = name_of(index, item);
  if (name.type == "function_call") {
    Json members = in_item(name);
    members["arguments"] = item.at("arguments");
    members["name"] = item.at("name");
    append(out, "response.function_call_arguments.done", members);
  } else {
    const Json& content = item.at("content");
    const Json part =
        content.empty() ? response_content(name.type, "", Json::array()) : content.front();
    Json members = in_content(name);
    members["text"] = part.at("text");
    if (name.type == "message") members["logprobs"] = part.at("logprobs");
    append(out,
           name.type == "message" ? "response.output_text.done" : "response.reasoning_text.done",
           members);
    members = in_content(name);
    members["part"] = part;
    append(out, "response.content_part.done", members);
  }
  append(out, "response.output_item.done", {{"output_index", index}, {"item", item}});
}

void ResponseEvents::end(std::string& out, const Json& response) {
  append(out, "response." + response.at("status").get<std::string>(), {{"response", response}});
}

void ResponseEvents::append(std::string& out, const std::string& type, const Json& members) {
  const int64_t number = events_++;
  if (number <= starting_after_) return;
  Json event = {{"type", type}, {"sequence_number", number}};
  event.update(members);
  fmt::format_to(std::back_inserter(out), "event: {}\ndata: {}\n\n", type, to_text(event));
}

}  // namespace ridge::api
