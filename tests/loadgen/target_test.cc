#include "loadgen/target.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::loadgen::target_test {
namespace {

using Json = nlohmann::json;

TEST(Target, TakesAddressesWithAndWithoutV1) {
  EXPECT_EQ(base_url_of("http://127.0.0.1:8080"), "http://127.0.0.1:8080/v1");
  EXPECT_EQ(base_url_of("http://127.0.0.1:8080/"), "http://127.0.0.1:8080/v1");
  EXPECT_EQ(base_url_of("https://example.org/api/v1/"), "https://example.org:443/api/v1");
  EXPECT_THROW(base_url_of("127.0.0.1"), Error);
  EXPECT_THROW(base_url_of("ftp://example.org"), Error);
}

TEST(Target, AsksChatsAndCompletionsToStream) {
  Target target{.base_url = "http://h/v1", .model = "m", .ignore_eos = true};
  Json body = Json::parse(request_body(target, "p", 5, Delivery::stream));
  EXPECT_EQ(body["messages"][0]["content"], "p");
  EXPECT_EQ(body["max_tokens"], 5);
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["stream_options"]["include_usage"], true);
  EXPECT_EQ(body["ignore_eos"], true);
  EXPECT_EQ(target.url(), "http://h/v1/chat/completions");

  target.endpoint = Endpoint::completions;
  target.ignore_eos = false;
  body = Json::parse(request_body(target, "p", 5, Delivery::document));
  EXPECT_EQ(body["prompt"], "p");
  EXPECT_FALSE(body.contains("stream"));
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_EQ(target.url(), "http://h/v1/completions");
}

TEST(Target, FurtherFieldsGoIntoTheBody) {
  const Target target{.model = "m", .extra_body = R"({"top_k":1,"temperature":0.5})"};
  const Json body = Json::parse(request_body(target, "p", 5, Delivery::stream));
  EXPECT_EQ(body["top_k"], 1);
  EXPECT_EQ(body["temperature"], 0.5);
  EXPECT_NO_THROW(check_extra_body(""));
  EXPECT_NO_THROW(check_extra_body("{}"));
  EXPECT_THROW(check_extra_body("[1]"), Error);
  EXPECT_THROW(check_extra_body("{"), Error);
}

TEST(Target, TakesTheFirstModelOfAList) {
  EXPECT_EQ(first_model(R"({"object":"list","data":[{"id":"a"},{"id":"b"}]})"), "a");
  EXPECT_EQ(first_model(R"({"data":[]})"), "");
  EXPECT_EQ(first_model("<html>"), "");
  EXPECT_EQ(first_model(R"({"data":[{"id":7}]})"), "");
}

}  // namespace
}  // namespace ridge::loadgen::target_test
