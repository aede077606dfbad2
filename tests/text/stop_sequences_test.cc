#include "text/stop_sequences.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace ridge::text::stop_sequences_test {
namespace {

struct Case {
  std::vector<std::string> sequences;
  std::string_view text;
  std::string_view shown;
  std::string_view match;  // empty: none
};

const std::vector<Case> cases = {
    {{"END"}, "the END of it", "the ", "END"},
    {{"END"}, "no stop here EN", "no stop here EN", ""},
    {{"\n\n"}, "a\nb\n\nc", "a\nb", "\n\n"},
    {{"aab"}, "aaab", "a", "aab"},
    {{"abcd", "bc"}, "xabce", "xa", "bc"},  // the one complete first
    {{"b", "ab"}, "xab", "x", "ab"},        // of several at once the longest
    {{"é"}, "cafè é", "cafè ", "é"},
    {{""}, "an empty sequence stops nothing", "an empty sequence stops nothing", ""},
    {{}, "no sequences", "no sequences", ""},
};

TEST(StopMatcher, FindsTheSameStopHoweverTheTextIsCut) {
  for (const Case& c : cases) {
    for (std::size_t bytes = 1; bytes <= c.text.size(); ++bytes) {
      StopMatcher matcher(c.sequences);
      std::string shown;
      for (std::size_t at = 0; at < c.text.size(); at += bytes) {
        shown += matcher.push(c.text.substr(at, bytes));
      }
      shown += matcher.flush();
      EXPECT_EQ(shown, c.shown) << c.text << ", " << bytes << " bytes a delta";
      ASSERT_EQ(matcher.matched(), !c.match.empty()) << c.text;
      if (matcher.matched()) {
        EXPECT_EQ(*matcher.match(), c.match);
      }
    }
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"stop"});
  EXPECT_EQ(matcher.push("a st"), "a ");
  EXPECT_EQ(matcher.push("art"), "start");
  EXPECT_EQ(matcher.push("s"), "");
  EXPECT_EQ(matcher.push("s"), "s");
  EXPECT_EQ(matcher.push("top and more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.push("later"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, IncludesTheStopWhereAsked) {
  StopMatcher matcher({"stop"}, /*include_match=*/true);
  EXPECT_EQ(matcher.push("now st"), "now ");
  EXPECT_EQ(matcher.push("op!"), "stop");
  EXPECT_EQ(matcher.push("!"), "");
}

}  // namespace
}  // namespace ridge::text::stop_sequences_test
