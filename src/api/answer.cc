#include "api/answer.h"

#include <fmt/format.h>

#include <random>

#include "api/error_body.h"

namespace ridge::api {

std::string random_id(std::string_view prefix) {
  constexpr std::string_view letters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::uniform_int_distribution<std::size_t> pick(0, letters.size() - 1);
  std::string id(prefix);
  for (int i = 0; i < 24; ++i) id += letters[pick(random)];
  return id;
}

std::string_view openai_finish_reason(engine::FinishReason reason) {
  if (reason == engine::FinishReason::tool_calls) return "tool_calls";
  return reason == engine::FinishReason::length ? "length" : "stop";
}

void Answer::fail(const Error& error, std::string_view request_id, std::string& out) {
  out += error_event(error, request_id);
}

std::string error_event(const Error& error, std::string_view request_id) {
  return fmt::format("data: {}\n\n", error_body(error, request_id));
}

}  // namespace ridge::api
