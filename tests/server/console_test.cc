// The console's files as the server sends them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "server/console_files.h"
#include "server/page_request.h"
#include "server_under_test.h"

namespace ridge::server::console_test {
namespace {

using testing::HasSubstr;

void answer_yes(ScriptedEngine::Part& part) { part.say("yes"); }

std::string get_file(std::string_view path, const std::string& headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers);
}

const std::string browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

TEST(PageRequest, IsForTheConsoleWhereHtmlIsShown) {
  EXPECT_TRUE(is_for_console(Route::hello, "GET", "text/html,*/*;q=0.8"));
  EXPECT_TRUE(is_for_console(Route::hello, "HEAD", "application/xml;q=0.9, Text/HTML ; q=1"));
  EXPECT_TRUE(is_for_console(Route::console_asset, "GET", ""));
  EXPECT_FALSE(is_for_console(Route::hello, "GET", "*/*"));  // curl
  EXPECT_FALSE(is_for_console(Route::hello, "GET", "text/html;q=0"));
  EXPECT_FALSE(is_for_console(Route::hello, "POST", "text/html"));
  EXPECT_FALSE(is_for_console(Route::console_asset, "POST", ""));
  EXPECT_FALSE(is_for_console(Route::models, "GET", "text/html"));
}

TEST(PageRequest, TakesTheBestCodingThatIsAllowed) {
  EXPECT_EQ(best_coding("gzip, deflate, br, zstd"), ContentCoding::brotli);
  EXPECT_EQ(best_coding("br;q=0, gzip;q=0.5"), ContentCoding::gzip);
  EXPECT_EQ(best_coding("br; q=0.000, gzip; q=0"), ContentCoding::identity);
  EXPECT_EQ(best_coding("br;q=0.001"), ContentCoding::brotli);
  EXPECT_EQ(best_coding(""), ContentCoding::identity);
}

TEST(PageRequest, KnowsItsEtagInAList) {
  EXPECT_TRUE(names_etag("\"a\", W/\"b\"", "\"b\""));
  EXPECT_TRUE(names_etag("*", "\"b\""));
  EXPECT_FALSE(names_etag("\"bc\"", "\"b\""));
  EXPECT_FALSE(names_etag("", "\"b\""));
}

// A server that asks for keys, of which there are none.
class Console : public testing::Test {
 protected:
  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_, [] { return int64_t{1'800'000'000'000}; }};
  FakeClock clock_;
  std::shared_ptr<platform::Authenticator> authenticator_ =
      std::make_shared<platform::Authenticator>(identity_, clock_, patient,
                                                [] { return int64_t{1'800'000'000'000}; });
  ServerUnderTest under_{answer_yes, {}, authenticator_};
  RawClient client_{under_.port()};
};

TEST_F(Console, IsShownToAnyoneAndItsApiIsNot) {
  const RawResponse page = client_.ask(get_file("/", browser));
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.body, HasSubstr("Ridgeline"));
  EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(client_.ask(get_file("/", "Accept: */*\r\n")).status, 401);
}

TEST_F(Console, IsNotGivenToOtherNamesOrOrigins) {
  const std::string other_host = "GET / HTTP/1.1\r\nHost: evil.example\r\n" + browser + "\r\n";
  EXPECT_EQ(client_.ask(other_host).status, 403);
  RawClient second(under_.port());
  EXPECT_EQ(second.ask(get_file("/", browser + "Origin: http://evil.example\r\n")).status, 403);
}

TEST_F(Console, HasNoOtherFiles) {
  for (const char* path : {"/assets/none.js", "/assets/..%2findex.html", "/assets/"}) {
    RawClient client(under_.port());
    const int status = client.ask(get_file(path, browser)).status;
    EXPECT_THAT(status, testing::AnyOf(401, 404)) << path;
  }
}

TEST_F(Console, SendsEachFileInEachCodingUnderAStrictPolicy) {
  if (console_files().empty()) GTEST_SKIP() << "built with RIDGE_CONSOLE=OFF";
  for (const ConsoleFile& file : console_files()) {
    SCOPED_TRACE(file.path);
    const std::pair<std::string, std::string_view> codings[] = {
        {"", file.plain},
        {"Accept-Encoding: gzip\r\n", file.gzip},
        {"Accept-Encoding: gzip, br\r\n", file.brotli}};
    for (const auto& [accepted, bytes] : codings) {
      const RawResponse answer = client_.ask(get_file(file.path, browser + accepted));
      EXPECT_EQ(answer.status, 200);
      EXPECT_EQ(answer.body, bytes.empty() ? file.plain : bytes);
      EXPECT_EQ(answer.headers.at("content-type"), file.content_type);
      EXPECT_EQ(answer.headers.contains("content-encoding"), !accepted.empty() && !bytes.empty());
      EXPECT_THAT(answer.headers.at("vary"), HasSubstr("Accept-Encoding"));
      const std::string& policy = answer.headers.at("content-security-policy");
      EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
      EXPECT_THAT(policy, testing::Not(HasSubstr("unsafe")));
      EXPECT_EQ(answer.headers.at("cache-control"),
                file.path == "/" ? "no-cache" : "public, max-age=31536000, immutable");
    }
    const std::string known = fmt::format("If-None-Match: {}\r\n", file.etag);
    client_.send(get_file(file.path, browser + known));
    EXPECT_EQ(client_.read(/*has_body=*/false).status, 304);
  }
}

TEST_F(Console, SaysWhereItIsAbsent) {
  if (!console_files().empty()) GTEST_SKIP() << "built with the console";
  EXPECT_THAT(client_.ask(get_file("/", browser)).body, HasSubstr("RIDGE_CONSOLE=OFF"));
}

}  // namespace
}  // namespace ridge::server::console_test
