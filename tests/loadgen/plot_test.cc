#include "loadgen/plot.h"

#include <gmock/gmock.h>

namespace ridge::loadgen {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

constexpr double close = 1e-12;

TEST(Plot, MarksOfALogarithmicAxisHoldTheValues) {
  EXPECT_THAT(logarithmic_marks(3, 40), ElementsAre(2, 5, 10, 20, 50));
  EXPECT_THAT(logarithmic_marks(10, 10), ElementsAre(10, 20));
  EXPECT_THAT(logarithmic_marks(0.1, 0.3),
              Pointwise(DoubleNear(close), std::vector<double>{0.1, 0.2, 0.5}));
  EXPECT_THAT(logarithmic_marks(99, 1000), ElementsAre(50, 100, 200, 500, 1000));
}

TEST(Plot, MarksOfALinearAxisHoldTheValues) {
  EXPECT_THAT(linear_marks(10), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_THAT(linear_marks(37), ElementsAre(0, 5, 10, 15, 20, 25, 30, 35, 40));
  EXPECT_THAT(linear_marks(1100), ElementsAre(0, 200, 400, 600, 800, 1000, 1200));
  for (double most = 0.01; most < 1e6; most *= 1.37) {
    const std::vector<double> marks = linear_marks(most);
    EXPECT_GE(marks.back(), most * (1 - close));
    EXPECT_GE(marks.size(), 4u) << most;
    EXPECT_LE(marks.size(), 11u) << most;
  }
}

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
}  // namespace ridge::loadgen
