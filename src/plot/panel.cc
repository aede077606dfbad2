#include "plot/panel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "base/error.h"

namespace ridge::plot {
namespace {

// Okabe and Ito, "Color universal design", 2008; their black and yellow give way to a grey and a
// wine red, which black and white pages show too.
constexpr auto colors = std::to_array<std::string_view>(
    {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#a02c5a"});

std::string mark_text(double value) {
  return value >= 10000 ? fmt::format("{:g}k", value / 1000) : fmt::format("{:g}", value);
}

// The mark `index` of the series ..., 1, 2, 5, 10, 20, 50, ...; mark 0 is 1.
double mark_of(int index) {
  constexpr std::array<double, 3> steps = {1, 2, 5};
  const int decade = index >= 0 ? index / 3 : -((2 - index) / 3);
  return steps[static_cast<size_t>(index - 3 * decade)] * std::pow(10.0, decade);
}

// Shown where a pointer rests.
std::string hint(std::string_view words) {
  return words.empty() ? "" : fmt::format("<title>{}</title>", escaped(words));
}

}  // namespace

std::vector<double> logarithmic_marks(double least, double most) {
  RIDGE_ASSERT(least > 0 && most > 0 && std::isfinite(least) && std::isfinite(most));
  constexpr double slack = 1 + 1e-9;  // 10^-1 is not exactly a tenth
  int index = 3 * static_cast<int>(std::floor(std::log10(least))) - 1;
  while (mark_of(index + 1) <= least * slack) ++index;
  std::vector<double> marks = {mark_of(index)};
  while (marks.back() * slack < most || marks.size() < 2) marks.push_back(mark_of(++index));
  return marks;
}

std::vector<double> linear_marks(double most) {
  RIDGE_ASSERT(most > 0 && std::isfinite(most));
  constexpr int most_steps = 10;
  int index = 3 * static_cast<int>(std::floor(std::log10(most / most_steps))) - 1;
  while (mark_of(index) * most_steps < most) ++index;
  const double step = mark_of(index);
  std::vector<double> marks = {0};
  while (marks.back() < most) marks.push_back(step * static_cast<double>(marks.size()));
  return marks;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += static_cast<unsigned char>(c) < ' ' ? '?' : c;
    }
  }
  return out;
}

std::string_view color(size_t index) { return colors[index % colors.size()]; }

double Axis::place(double value) const {
  const double least = marks.front();
  const double most = marks.back();
  const double share = logarithmic ? std::log(value / least) / std::log(most / least)
                                   : (value - least) / (most - least);
  return std::clamp(share, 0.0, 1.0);
}

std::string picture_head(double width, double height, double title_left, std::string_view title) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"Helvetica, Arial, sans-serif\">\n"
      "<style>.page {{ fill: #ffffff; }} .title {{ font-size: 15px; fill: #111111; }} "
      ".panel {{ font-size: 13px; fill: #111111; }} .mark {{ font-size: 11px; fill: #555555; }} "
      ".grid {{ stroke: #dddddd; }} "
      "@media (prefers-color-scheme: dark) {{ .page {{ fill: #14171a; }} "
      ".title, .panel {{ fill: #eeeeee; }} .mark {{ fill: #aaaaaa; }} "
      ".grid {{ stroke: #333a40; }} }}</style>\n"
      "<rect width=\"100%\" height=\"100%\" class=\"page\"/>\n"
      "<text x=\"{2:.0f}\" y=\"26\" class=\"title\">{3}</text>\n",
      width, height, title_left, escaped(title));
}

Panel::Panel(std::string& svg, Rectangle place, Axis x, Axis y)
    : svg_(svg), place_(place), x_(std::move(x)), y_(std::move(y)) {}

Point Panel::pixel(Point at) const {
  return {place_.left + x_.place(at.x) * place_.width,
          place_.top + (1 - y_.place(at.y)) * place_.height};
}

void Panel::draw_frame(std::string_view title, std::string_view x_name, std::string_view y_unit,
                       std::string_view y_name) {
  const double right = place_.left + place_.width;
  const double bottom = place_.top + place_.height;
  text(place_.left, place_.top - 10, "start", "panel", title);
  for (const double mark : x_.marks) {
    const double x = place_.left + x_.place(mark) * place_.width;
    line(x, place_.top, x, bottom);
    text(x, bottom + 16, "middle", "mark", mark_text(mark));
  }
  for (const double mark : y_.marks) {
    const double y = place_.top + (1 - y_.place(mark)) * place_.height;
    line(place_.left, y, right, y);
    text(place_.left - 6, y + 4, "end", "mark", mark_text(mark) + std::string(y_unit));
  }
  text(right, bottom + 32, "end", "mark", x_name);
  if (y_name.empty()) return;
  const double x = place_.left - 48;
  const double y = place_.top + place_.height / 2;
  fmt::format_to(std::back_inserter(svg_),
                 "<text x=\"{0:.1f}\" y=\"{1:.1f}\" transform=\"rotate(-90 {0:.1f} {1:.1f})\" "
                 "text-anchor=\"middle\" class=\"mark\">{2}</text>\n",
                 x, y, escaped(y_name));
}

void Panel::draw(const Curve& curve, std::string_view color, std::string_view dashes) {
  if (curve.empty()) return;
  const std::string pattern = dashes.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", dashes);
  fmt::format_to(std::back_inserter(svg_),
                 "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"{} points=\"", color,
                 pattern);
  for (const Point& point : curve) {
    const Point at = pixel(point);
    fmt::format_to(std::back_inserter(svg_), "{:.1f},{:.1f} ", at.x, at.y);
  }
  svg_ += "\"/>\n";
}

void Panel::draw_dot(Point at, std::string_view color, double radius, std::string_view words) {
  const Point center = pixel(at);
  fmt::format_to(std::back_inserter(svg_),
                 "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\">{}</circle>\n",
                 center.x, center.y, radius, color, hint(words));
}

void Panel::draw_diamond(Point at, std::string_view color, double radius, std::string_view words) {
  const Point c = pixel(at);
  fmt::format_to(std::back_inserter(svg_),
                 "<path d=\"M{:.1f} {:.1f} L{:.1f} {:.1f} L{:.1f} {:.1f} L{:.1f} {:.1f} Z\" "
                 "fill=\"{}\">{}</path>\n",
                 c.x - radius, c.y, c.x, c.y - radius, c.x + radius, c.y, c.x, c.y + radius, color,
                 hint(words));
}

void Panel::text(double x, double y, std::string_view anchor, std::string_view kind,
                 std::string_view words) {
  fmt::format_to(std::back_inserter(svg_),
                 "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x,
                 y, anchor, kind, escaped(words));
}

void Panel::line(double x1, double y1, double x2, double y2) {
  fmt::format_to(std::back_inserter(svg_),
                 "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
                 "class=\"grid\"/>\n",
                 x1, y1, x2, y2);
}

}  // namespace ridge::plot
