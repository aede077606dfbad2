#include "server/http_head.h"

#include <gtest/gtest.h>

namespace ridge::server::http_head_test {
namespace {

TEST(ResponseHead, CannotBeSplitByAValue) {
  ResponseHead head;
  head.headers.emplace_back("x-test", "a\r\nSet-Cookie: b");
  EXPECT_EQ(to_bytes(head).find("\r\nSet-Cookie"), std::string::npos);
}

TEST(ResponseHead, SaysHowTheBodyEnds) {
  ResponseHead head;
  EXPECT_NE(to_bytes(head).find("Transfer-Encoding: chunked"), std::string::npos);
  head.is_http_1_0 = true;
  EXPECT_EQ(to_bytes(head).find("chunked"), std::string::npos);
  head.content_bytes = 12;
  EXPECT_NE(to_bytes(head).find("Content-Length: 12\r\n"), std::string::npos);
}

TEST(AppendChunk, NeverEndsTheBodyByAccident) {
  std::string out;
  append_chunk(out, "");
  EXPECT_EQ(out, "");
  append_chunk(out, std::string(16, 'x'));
  EXPECT_EQ(out, "10\r\n" + std::string(16, 'x') + "\r\n");
}

TEST(RequestId, IsTakenOverOnlyWhereItIsHarmless) {
  EXPECT_TRUE(is_request_id("req_1.A-b"));
  EXPECT_FALSE(is_request_id(""));
  EXPECT_FALSE(is_request_id("a b"));
  EXPECT_FALSE(is_request_id(std::string(129, 'a')));
}

TEST(HttpHead, FindsTheKeyInEitherHeader) {
  EXPECT_EQ(caller_key("Bearer abc", ""), "abc");
  EXPECT_EQ(caller_key("bearer abc", "other"), "abc");
  EXPECT_EQ(caller_key("", "abc"), "abc");
  EXPECT_EQ(caller_key("Basic abc", "x"), "Basic abc");
  EXPECT_EQ(caller_key("Bear", ""), "Bear");
  EXPECT_EQ(caller_key("", ""), "");
  EXPECT_EQ(caller_key("Bearer ", "abc"), "abc") << "clients send it so where they have no token";
  EXPECT_EQ(caller_key("Bearer", "abc"), "abc");
  EXPECT_EQ(caller_key("Bearers abc", "x"), "Bearers abc");
}

}  // namespace
}  // namespace ridge::server::http_head_test
