#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/json_text.h"

namespace ridge::api {

// The data of each event of a stream, "[DONE]" as a string; comments are left out.
inline std::vector<Json> events_of(std::string_view stream) {
  std::vector<Json> events;
  while (!stream.empty()) {
    const std::size_t end = stream.find("\n\n");
    if (end == std::string_view::npos) {
      ADD_FAILURE() << "the stream ends inside an event: " << stream;
      break;
    }
    const std::string_view event = stream.substr(0, end);
    stream.remove_prefix(end + 2);
    if (event.starts_with(":")) continue;
    EXPECT_TRUE(event.starts_with("data: ")) << event;
    const std::string_view data = event.substr(6);
    events.push_back(data == "[DONE]" ? Json(data) : Json::parse(data));
  }
  return events;
}

// Name and data of each event of a stream whose events have names.
inline std::vector<std::pair<std::string, Json>> named_events_of(std::string_view stream) {
  std::vector<std::pair<std::string, Json>> events;
  while (!stream.empty()) {
    const std::size_t line = stream.find('\n'), end = stream.find("\n\n");
    if (end == std::string_view::npos || line == end || !stream.starts_with("event: ")) {
      ADD_FAILURE() << "no event with a name: " << stream;
      break;
    }
    const std::string_view data = stream.substr(line + 1, end - line - 1);
    EXPECT_TRUE(data.starts_with("data: ")) << data;
    events.emplace_back(stream.substr(7, line - 7), Json::parse(data.substr(6)));
    stream.remove_prefix(end + 2);
  }
  return events;
}

}  // namespace ridge::api
