#include "loadgen/plot.h"

#include <gmock/gmock.h>

namespace ridge::loadgen::plot_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RunResult some_answers() {
  RunResult result{.duration_s = 1};
  for (int i = 0; i < 20; ++i) {
    RequestRecord record;
    record.group = i % 2;
    record.outcome = RequestRecord::Outcome::ok;
    record.first_token_ms = 10 + i;
    record.gaps_ms = {0, 5, 20};
    record.total_ms = 60;
    result.records.push_back(record);
  }
  return result;
}

TEST(Plot, DrawsACurveOfEachGroupInEachPanel) {
  const std::string svg =
      plot_svg("a title", some_answers(), {{.name = "light"}, {.name = "heavy"}});
  size_t curves = 0;
  for (size_t at = 0; (at = svg.find("<polyline", at)) != svg.npos; ++at) ++curves;
  EXPECT_EQ(curves, 8u);
  EXPECT_THAT(svg, HasSubstr("a title"));
  EXPECT_THAT(svg, HasSubstr(">heavy<"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(Plot, NamesCannotBreakThePicture) {
  const std::string svg =
      plot_svg("<script>&", some_answers(), {{.name = "a<b"}, {.name = "\x1b"}});
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;&amp;"));
  EXPECT_THAT(svg, Not(HasSubstr("\x1b")));
}

TEST(Plot, ARunWithoutAnswersIsAnEmptyPicture) {
  const std::string svg = plot_svg("nothing", {}, {{.name = "all"}});
  EXPECT_THAT(svg, HasSubstr("</svg>"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace ridge::loadgen::plot_test
