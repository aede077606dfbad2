#include "api/error_body.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/answer.h"
#include "api/json_text.h"

namespace ridge::api::error_body_test {
namespace {

TEST(ErrorBody, HasOpenAisShape) {
  const Error error(ErrorCode::invalid_argument, "'n' is 0", "n");
  EXPECT_EQ(
      error_body(error, "r"),
      R"({"error":{"message":"'n' is 0","type":"invalid_request_error","param":"n","code":"invalid_argument"}})");
  const Json missing = Json::parse(error_body(Error(ErrorCode::not_found, "no", "model"), "r"));
  EXPECT_EQ(missing["error"]["code"], "model_not_found");
  const Json context = Json::parse(error_body(Error(ErrorCode::context_length, "long"), "r"));
  EXPECT_EQ(context["error"]["code"], "context_length_exceeded");
  EXPECT_TRUE(context["error"]["param"].is_null());
}

TEST(ErrorBody, TellsNothingOfAnInternalFailure) {
  for (const ErrorCode code : {ErrorCode::internal, ErrorCode::io, ErrorCode::invalid_file}) {
    const std::string body = error_body(Error(code, "/secret/path"), "req_1");
    EXPECT_EQ(body.find("secret"), std::string::npos);
    EXPECT_NE(body.find("req_1"), std::string::npos);
  }
}

TEST(ErrorBody, NamesTheTypeByStatus) {
  EXPECT_EQ(error_type(400), "invalid_request_error");
  EXPECT_EQ(error_type(413), "invalid_request_error");
  EXPECT_EQ(error_type(401), "authentication_error");
  EXPECT_EQ(error_type(403), "permission_error");
  EXPECT_EQ(error_type(429), "rate_limit_error");
  EXPECT_EQ(error_type(500), "server_error");
}

TEST(ErrorEvent, IsOneEventAndNoDone) {
  const std::string event = error_event(Error(ErrorCode::unavailable, "bye\nnow"), "r");
  EXPECT_TRUE(event.starts_with("data: {\"error\""));
  EXPECT_TRUE(event.ends_with("}\n\n"));
  EXPECT_EQ(event.find('\n'), event.size() - 2);
}

}  // namespace
}  // namespace ridge::api::error_body_test
