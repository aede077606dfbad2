#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "text/detokenizer.h"

namespace ridge::text::utf8_assembler_test {
namespace {

std::string assemble(std::string_view bytes, std::size_t bytes_per_push) {
  Utf8Assembler assembler;
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += bytes_per_push) {
    text += assembler.push(bytes.substr(at, bytes_per_push));
  }
  return text + assembler.flush();
}

struct Case {
  std::string_view bytes;
  std::string_view text;
};

// The ill-formed cases are those of the Unicode Standard, chapter 3.9, tables 3-8 to 3-11.
constexpr Case cases[] = {
    {"plain", "plain"},
    {"é中😀", "é中😀"},
    {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
    {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA"},
    {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
     "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
     "A\uFFFD\uFFFD"
     "B"},
    {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41",
     "\uFFFD\uFFFD\uFFFD\uFFFD"
     "A"},
    {"cut \xF0\x9F\x98", "cut \uFFFD"},
};

TEST(Utf8Assembler, ReplacesMaximalSubpartsHoweverTheBytesAreCut) {
  for (const Case& c : cases) {
    for (std::size_t bytes = 1; bytes <= c.bytes.size(); ++bytes) {
      EXPECT_EQ(assemble(c.bytes, bytes), c.text) << bytes << " bytes a push";
    }
  }
}

TEST(Utf8Assembler, WaitsForACharacterThatMayStillBeCompleted) {
  Utf8Assembler assembler;
  EXPECT_EQ(assembler.push("a\xE4\xB8"), "a");
  EXPECT_TRUE(assembler.holds_bytes());
  EXPECT_EQ(assembler.push("\xAD"), "中");
  EXPECT_FALSE(assembler.holds_bytes());
  EXPECT_EQ(assembler.push("\xE4"
                           "b"),
            "\uFFFD"
            "b");
  EXPECT_EQ(assembler.flush(), "");
}

}  // namespace
}  // namespace ridge::text::utf8_assembler_test
