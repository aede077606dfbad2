#include "api/stored_response.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "api/answer.h"
#include "api/fields.h"
#include "api/responses_events.h"
#include "api/url_query.h"

namespace ridge::api {
namespace {

// As it was when it began.
Json without_output(Json response) {
  response["status"] = "in_progress";
  response["output"] = Json::array();
  for (const char* name : {"error", "incomplete_details", "usage"}) response[name] = nullptr;
  response.erase("completed_at");
  return response;
}

std::string text_of(const Json& item) {
  if (item.at("type") == "function_call") return item.at("arguments").get<std::string>();
  const Json& content = item.at("content");
  return content.empty() ? std::string() : content.front().at("text").get<std::string>();
}

Json without_text(Json item) {
  item["status"] = "in_progress";
  if (item.at("type") == "function_call") {
    item["arguments"] = "";
  } else {
    item["content"] = Json::array();
  }
  return item;
}

std::string events_of(const Json& response, int64_t starting_after) {
  ResponseEvents events(starting_after);
  std::string out;
  events.begin(out, without_output(response));
  std::size_t index = 0;
  for (const Json& item : response.at("output")) {
    const std::string text = text_of(item);
    events.open(out, index, without_text(item));
    if (!text.empty()) {
      const bool is_message = item.at("type") == "message";
      events.extend(out,
                    {.type = item.at("type").get_ref<const std::string&>(),
                     .id = item.at("id").get_ref<const std::string&>(),
                     .index = index},
                    text, is_message ? item["content"][0].at("logprobs") : Json::array());
    }
    events.close(out, index++, item);
  }
  events.end(out, response);
  return out;
}

}  // namespace

Error no_such_response(std::string_view id) {
  return Error(ErrorCode::not_found,
               fmt::format("Response with id '{}' not found.", id.substr(0, 200)));
}

ResponseBody response_body(const StoredResponse& response, std::string_view query) {
  const auto stream = query_value(query, "stream");
  if (stream && *stream != "true" && *stream != "false") {
    refuse("stream", "'stream' must be true or false");
  }
  const int64_t starting_after = query_number(query, "starting_after", 0, INT32_MAX).value_or(-1);
  if (stream != "true") return {response.body, "application/json"};
  return {events_of(Json::parse(response.body), starting_after), event_stream_type};
}

std::string input_items_body(const StoredResponse& response, std::string_view query) {
  const auto order = query_value(query, "order"), after = query_value(query, "after");
  const std::size_t limit = query_limit(query);
  if (order && *order != "asc" && *order != "desc") {
    refuse("order", fmt::format("'order' must be asc or desc, not \"{}\"", order->substr(0, 40)));
  }
  Json data = Json::array();
  bool has_more = false, begun = !after;
  const std::size_t count = response.input.size();
  for (std::size_t i = 0; i < count && !has_more; ++i) {
    Json item = Json::parse(response.input[order == "asc" ? i : count - 1 - i]);
    if (!begun) {
      begun = item["id"] == *after;
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

std::string cancelled_response_body(std::string_view id, std::string_view model) {
  return to_text({{"id", id},
                  {"object", "response"},
                  {"status", "cancelled"},
                  {"model", model},
                  {"output", Json::array()},
                  {"error", nullptr}});
}

std::string deleted_response_body(std::string_view id) {
  return to_text({{"id", id}, {"object", "response"}, {"deleted", true}});
}

}  // namespace ridge::api
