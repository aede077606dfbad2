#include "api/multipart.h"

#include <gmock/gmock.h>

#include <string>

#include "base/error.h"

namespace ridge::api::multipart_test {
namespace {

constexpr std::string_view type = "multipart/form-data; boundary=b";

std::string part(const std::string& disposition, const std::string& content) {
  return "--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + content + "\r\n";
}

std::string failure_of(std::string_view content_type, std::string_view body) {
  try {
    parse_multipart(content_type, body);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
}

TEST(Multipart, ReadsFieldsAndFiles) {
  const std::string bytes("\0\r\n--a\r\n--\r\n\xff", 13);
  const std::string body = part("name=\"purpose\"", "batch") +
                           "--b\r\ncontent-type: application/json\r\n"
                           "content-disposition: form-data; filename=\"a \\\"b\\\"; c.jsonl\"; "
                           "name=file\r\n\r\n" +
                           bytes + "\r\n" + part("name=\"empty\"", "") + "--b--\r\n";
  const auto parts = parse_multipart(type, body);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].name, "purpose");
  EXPECT_EQ(parts[0].content, "batch");
  EXPECT_FALSE(parts[0].file_name);
  EXPECT_EQ(parts[1].name, "file");
  EXPECT_EQ(parts[1].file_name, "a \"b\"; c.jsonl");
  EXPECT_EQ(parts[1].content, bytes);
  EXPECT_EQ(parts[2].content, "");
  EXPECT_EQ(form_value(parts, "purpose", 5), "batch");
  EXPECT_EQ(form_value(parts, "none", 5), std::nullopt);
  EXPECT_EQ(form_value(parts, "file", 5), std::nullopt) << "a file is no value";
  EXPECT_THROW(form_value(parts, "purpose", 4), Error);
}

TEST(Multipart, TakesWhatMayStandAround) {
  const std::string body = "ignored\r\n" + part("name=a", "1") + "--b--";
  EXPECT_EQ(parse_multipart("Multipart/Form-Data; charset=x; BOUNDARY=\"b\"", body)[0].content,
            "1");
  EXPECT_TRUE(parse_multipart(type, "--b--").empty());
}

TEST(Multipart, SaysWhatIsWrong) {
  const std::string good = part("name=a", "1") + "--b--";
  EXPECT_THAT(failure_of("application/json", good), testing::HasSubstr("application/json"));
  EXPECT_THAT(failure_of("", good), testing::HasSubstr("must be multipart/form-data"));
  EXPECT_THAT(failure_of("multipart/form-data", good), testing::HasSubstr("boundary"));
  EXPECT_THAT(failure_of("multipart/form-data; boundary=", good), testing::HasSubstr("boundary"));
  EXPECT_THAT(failure_of(type, ""), testing::HasSubstr("does not appear"));
  EXPECT_THAT(failure_of(type, part("name=a", "1")), testing::HasSubstr("'a' has no end"));
  EXPECT_THAT(failure_of(type, "--b\r\n\r\n1\r\n--b--"), testing::HasSubstr("no Content-Disp"));
  EXPECT_THAT(failure_of(type, part("filename=a", "1") + "--b--"), testing::HasSubstr("no Conte"));
  EXPECT_THAT(failure_of(type, "--b\r\n" + std::string(10'000, 'x')), testing::HasSubstr("no end"));
  std::string many;
  for (int i = 0; i < 33; ++i) many += part("name=a", "1");
  EXPECT_THAT(failure_of(type, many + "--b--"), testing::HasSubstr("32 parts"));
  EXPECT_THROW(form_value(parse_multipart(type, part("name=a", "") + good), "a", 9), Error);
}

TEST(Multipart, NeverReadsPastTheEnd) {
  const std::string whole = part("name=\"a\"; filename=\"b\"", "1") + "--b--\r\n";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);  // a heap block of its own, for sanitizers
    failure_of(type, cut);
  }
  const std::string header(type);
  for (std::size_t size = 0; size < header.size(); ++size)
    failure_of(header.substr(0, size), whole);
}

}  // namespace
}  // namespace ridge::api::multipart_test
