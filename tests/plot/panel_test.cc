#include "plot/panel.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace ridge::plot::panel_test {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

constexpr double close = 1e-12;

TEST(Panel, MarksOfALogarithmicAxisHoldTheValues) {
  EXPECT_THAT(logarithmic_marks(3, 40), ElementsAre(2, 5, 10, 20, 50));
  EXPECT_THAT(logarithmic_marks(10, 10), ElementsAre(10, 20));
  EXPECT_THAT(logarithmic_marks(0.1, 0.3),
              Pointwise(DoubleNear(close), std::vector<double>{0.1, 0.2, 0.5}));
  EXPECT_THAT(logarithmic_marks(99, 1000), ElementsAre(50, 100, 200, 500, 1000));
}

TEST(Panel, MarksOfALinearAxisHoldTheValues) {
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

TEST(Panel, NoAxisEndsAtInfinityOrBeginsAtNothing) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  EXPECT_DEATH(logarithmic_marks(1, infinity), "isfinite");
  EXPECT_DEATH(logarithmic_marks(infinity, infinity), "isfinite");
  EXPECT_DEATH(logarithmic_marks(0, 1), "least > 0");
  EXPECT_DEATH(logarithmic_marks(std::nan(""), 1), "least > 0");
  EXPECT_DEATH(linear_marks(infinity), "isfinite");
  EXPECT_DEATH(linear_marks(0), "most > 0");
}

TEST(Panel, PutsPointsWhereTheirValuesAre) {
  std::string svg;
  Panel panel(svg, {.left = 100, .top = 10, .width = 200, .height = 50},
              {.marks = {1, 10, 100}, .logarithmic = true}, {.marks = {0, 5, 10}});
  panel.draw({{1, 0}, {10, 5}, {100, 10}}, color(0), "4 3");
  EXPECT_THAT(svg, HasSubstr("points=\"100.0,60.0 200.0,35.0 300.0,10.0 \""));
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray=\"4 3\""));
}

TEST(Panel, KeepsWhatLiesBeyondItsAxesAtTheirEnds) {
  const Axis axis{.marks = {1, 2, 5}, .logarithmic = true};
  EXPECT_DOUBLE_EQ(axis.place(0.001), 0);
  EXPECT_DOUBLE_EQ(axis.place(77), 1);
}

TEST(Panel, WordsCannotBreakThePicture) {
  std::string svg;
  Panel panel(svg, {0, 0, 10, 10}, {{0, 1}}, {{0, 1}});
  panel.draw_dot({0, 0}, color(1), 3, "a<b & \"c\"\x1b");
  EXPECT_THAT(svg, HasSubstr("<title>a&lt;b &amp; &quot;c&quot;?</title>"));
}

TEST(Panel, ColoursBothKindsOfPages) {
  const std::string head = picture_head(100, 50, 10, "t");
  EXPECT_THAT(head, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(head, Not(HasSubstr("fill=\"white\"")));
}

}  // namespace
}  // namespace ridge::plot::panel_test
