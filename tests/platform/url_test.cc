#include "platform/url.h"

#include "platform/throws.h"

namespace ridge::platform::url_test {
namespace {

TEST(Url, TheOriginHoldsSchemeHostAndPort) {
  EXPECT_EQ(Url::parse("https://Hub.Example/a?b#c").origin(), "https://hub.example:443");
  EXPECT_EQ(Url::parse("http://127.0.0.1:8000/a").origin(), "http://127.0.0.1:8000");
  EXPECT_NE(Url::parse("https://a/").origin(), Url::parse("http://a/").origin());
  EXPECT_EQ(Url::parse("https://a/path?signature=secret").to_string(), "https://a:443/path");
}

TEST(Url, TheHostHasNeitherPortNorBrackets) {
  EXPECT_EQ(Url::parse("https://Hub.Example:8443/a").host(), "hub.example");
  EXPECT_EQ(Url::parse("http://[fe80::1]:80/").host(), "fe80::1");
  EXPECT_EQ(Url::parse("http://0xa9fea9fe/").host(), "169.254.169.254");
}

TEST(Url, RefusesOtherSchemesUsersAndStrangeBytes) {
  for (const char* text :
       {"file:///etc/passwd", "ftp://a/", "gopher://a/", "https://user:word@a/", "https://user@a/",
        "https://a\\@b/", "https://a/ b", "https://a/\r\nHost: b", "", "a/b", "https://"}) {
    EXPECT_ERROR(Url::parse(text), invalid_argument, "");
  }
}

TEST(Url, ResolvesRedirectsAgainstTheirPage) {
  const Url page = Url::parse("https://a/b/c?d=1");
  EXPECT_EQ(page.resolve("/x").to_string(), "https://a:443/x");
  EXPECT_EQ(page.resolve("x").to_string(), "https://a:443/b/x");
  EXPECT_EQ(page.resolve("//other/x").origin(), "https://other:443");
  EXPECT_EQ(page.resolve("http://a/x").origin(), "http://a:80");
  EXPECT_ERROR(page.resolve("file:///etc/passwd"), invalid_argument, "");
  EXPECT_ERROR(page.resolve("https://a@b/"), invalid_argument, "");
  EXPECT_ERROR(page.resolve("https:\\\\b/"), invalid_argument, "");
}

TEST(Encode, LeavesOnlyUnreservedCharacters) {
  EXPECT_EQ(encode_path("a b/c?d#e%f"), "a%20b/c%3Fd%23e%25f");
  EXPECT_EQ(encode_query("a/b&c=d"), "a%2Fb%26c%3Dd");
}

TEST(Url, KnowsThisMachineByItsOwnNamesAlone) {
  for (const char* own : {"http://127.0.0.1", "https://127.1.2.3:8080/a", "http://localhost:80",
                          "http://LOCALHOST/", "http://[::1]:9"}) {
    EXPECT_TRUE(Url::parse(own).is_this_machine()) << own;
  }
  for (const char* other : {"http://127.0.0.1.example.org", "http://localhost.example.org",
                            "http://127.example.org:80", "http://10.0.0.1", "http://[::2]"}) {
    EXPECT_FALSE(Url::parse(other).is_this_machine()) << other;
  }
}

}  // namespace
}  // namespace ridge::platform::url_test
