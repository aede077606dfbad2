#include "engine/request_check.h"

#include <gtest/gtest.h>

#include <functional>

namespace ridge::engine::request_check_test {
namespace {

Request good() {
  Request request;
  request.prompt_tokens = {1, 2, 3};
  request.max_tokens = 10;
  return request;
}

TEST(RequestCheck, AcceptsAPlainRequestAndTheLongestPrompt) {
  Request request = good();
  EXPECT_NO_THROW(check_request(request, 100, 64, 2));
  request.prompt_tokens.assign(63, 99);
  request.adapter = 1;
  EXPECT_NO_THROW(check_request(request, 100, 64, 2));
}

TEST(RequestCheck, APromptThatFillsTheContextIsAContextError) {
  Request request = good();
  request.prompt_tokens.assign(64, 1);
  try {
    check_request(request, 100, 64, 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::context_length);
    EXPECT_EQ(error.param(), "messages");
    EXPECT_NE(error.message().find("64 tokens"), std::string::npos) << error.message();
  }
}

TEST(RequestCheck, NamesTheFieldAtFault) {
  const std::pair<const char*, std::function<void(Request&)>> cases[] = {
      {"messages", [](Request& r) { r.prompt_tokens.clear(); }},
      {"prompt", [](Request& r) { r.prompt_tokens[1] = 100; }},
      {"prompt", [](Request& r) { r.prompt_tokens[1] = -1; }},
      {"max_tokens", [](Request& r) { r.max_tokens = 0; }},
      {"min_tokens", [](Request& r) { r.min_tokens = -1; }},
      {"min_tokens", [](Request& r) { r.min_tokens = 11; }},
      {"n", [](Request& r) { r.choices = 0; }},
      {"n", [](Request& r) { r.choices = 16384; }},
      {"stop",
       [](Request& r) {
         r.stop = {"a", ""};
       }},
      {"stop", [](Request& r) { r.stop.assign(17, "a"); }},
      {"stop", [](Request& r) { r.stop = {std::string(1025, 'a')}; }},
      {"model", [](Request& r) { r.adapter = 2; }},
      {"model", [](Request& r) { r.adapter = -2; }},
      {"temperature", [](Request& r) { r.sampling.temperature = 3.0f; }},
  };
  for (const auto& [param, change] : cases) {
    Request request = good();
    change(request);
    try {
      check_request(request, 100, 64, 2);
      ADD_FAILURE() << "accepted a bad " << param;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.param(), param);
    }
  }
}

}  // namespace
}  // namespace ridge::engine::request_check_test
