#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ridge::plot {

// 1, 2 or 5 times a power of ten: the marks of a logarithmic axis that begins at the last one that
// is at most `least` and ends at the first that is at least `most`; at least two. Both finite and
// above 0.
std::vector<double> logarithmic_marks(double least, double most);
// From 0 in equal steps of 1, 2 or 5 times a power of ten to at least `most`, which is finite
// and above 0; 4 to 11 of them.
std::vector<double> linear_marks(double most);

// For text between tags and in attributes; control characters become '?'.
std::string escaped(std::string_view text);

// Distinct for colour-blind people too, on white and on black, for as many curves as there are.
std::string_view color(size_t index);

struct Axis {
  std::vector<double> marks;  // rising, at least two
  bool logarithmic = false;

  // 0 at the first mark, 1 at the last, and what lies beyond them there too.
  double place(double value) const;
};

struct Point {
  double x, y;
};
using Curve = std::vector<Point>;

// In pixels.
struct Rectangle {
  double left, top, width, height;
};

// The <svg> tag, the styles and the title of a picture, whose text and lines are dark on white, or
// light on a dark page (prefers-color-scheme). Ends with "</svg>" by the caller.
std::string picture_head(double width, double height, double title_left, std::string_view title);

// One pair of axes in a picture. `svg` must outlive it.
class Panel {
 public:
  Panel(std::string& svg, Rectangle place, Axis x, Axis y);

  // Marks, lines and names. y_unit follows each mark; x_name and y_name may be empty.
  void draw_frame(std::string_view title, std::string_view x_name, std::string_view y_unit,
                  std::string_view y_name = "");
  // dashes: as stroke-dasharray, "" for a whole line.
  void draw(const Curve& curve, std::string_view color, std::string_view dashes = "");
  void draw_dot(Point at, std::string_view color, double radius, std::string_view words);
  void draw_diamond(Point at, std::string_view color, double radius, std::string_view words);

 private:
  void text(double x, double y, std::string_view anchor, std::string_view kind,
            std::string_view words);
  void line(double x1, double y1, double x2, double y2);
  Point pixel(Point at) const;

  std::string& svg_;
  Rectangle place_;
  Axis x_, y_;
};

}  // namespace ridge::plot
