#include "platform/identity/api_key_text.h"

#include <gtest/gtest.h>

#include <set>

namespace ridge::platform::api_key_text_test {
namespace {

TEST(ApiKeyText, IsReadAsItWasWritten) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const ApiKeyText key = ApiKeyText::generate();
    EXPECT_EQ(key.text().size(), 53u);
    EXPECT_EQ(key.text().substr(0, 4), "rgk_");
    const auto parsed = ApiKeyText::parse(key.text());
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->hash(), key.hash());
    EXPECT_EQ(key.hint(), key.text().substr(0, 8));
    seen.insert(key.text());
  }
  EXPECT_EQ(seen.size(), 100u);
}

// Worked out by Python's hashlib, as docs/adr has the format.
TEST(ApiKeyText, HasTheChecksumOfTheFormat) {
  const std::string body = "rgk_" + std::string(43, 'A');
  EXPECT_TRUE(ApiKeyText::parse(body + "0hqqxI"));
}

TEST(ApiKeyText, IsRefusedWithOneLetterWrongOrMissing) {
  const std::string key = ApiKeyText::generate().text();
  for (std::size_t i = 0; i < key.size(); ++i) {
    std::string wrong = key;
    wrong[i] = wrong[i] == 'a' ? 'b' : 'a';
    EXPECT_FALSE(ApiKeyText::parse(wrong)) << i;
  }
  EXPECT_FALSE(ApiKeyText::parse(key.substr(1)));
  EXPECT_FALSE(ApiKeyText::parse(key.substr(0, key.size() - 1)));
  EXPECT_FALSE(ApiKeyText::parse(key + "a"));
  EXPECT_FALSE(ApiKeyText::parse(""));
  EXPECT_FALSE(ApiKeyText::parse("none"));
  EXPECT_FALSE(ApiKeyText::parse("rgk_" + std::string(49, '\xff')));
}

}  // namespace
}  // namespace ridge::platform::api_key_text_test
