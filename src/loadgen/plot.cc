#include "loadgen/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>

#include "loadgen/summary.h"

namespace ridge::loadgen {
namespace {

// In pixels.
constexpr double panel_width = 400;
constexpr double panel_height = 220;
constexpr double left_margin = 64;
constexpr double top_margin = 78;
constexpr double column_step = panel_width + 90;
constexpr double row_step = panel_height + 84;
constexpr double picture_width = left_margin + column_step + panel_width + 30;
constexpr double picture_height = top_margin + row_step + panel_height + 50;

constexpr int curve_points = 400;  // of a distribution, whatever it holds
constexpr int speed_points = 60;   // moments that a run is cut into

// Distinct for colour-blind people too; Okabe and Ito, "Color universal design", 2008.
constexpr auto colors = std::to_array<std::string_view>(
    {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"});

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '>') {
      out += "&gt;";
    } else {
      out += static_cast<unsigned char>(c) < ' ' ? '?' : c;
    }
  }
  return out;
}

std::string mark_text(double value) {
  return value >= 10000 ? fmt::format("{:g}k", value / 1000) : fmt::format("{:g}", value);
}

struct Axis {
  std::vector<double> marks;
  bool logarithmic = false;

  // 0 at the first mark, 1 at the last.
  double place(double value) const {
    const double least = marks.front();
    const double most = marks.back();
    const double share = logarithmic ? std::log(value / least) / std::log(most / least)
                                     : (value - least) / (most - least);
    return std::clamp(share, 0.0, 1.0);
  }
};

struct Point {
  double x, y;
};
using Curve = std::vector<Point>;

class Panel {
 public:
  Panel(std::string& svg, int column, int row, Axis x, Axis y)
      : svg_(svg),
        left_(left_margin + column * column_step),
        top_(top_margin + row * row_step),
        x_(std::move(x)),
        y_(std::move(y)) {}

  void draw_frame(std::string_view title, std::string_view x_unit, std::string_view y_unit) {
    text(left_, top_ - 10, "start", "panel", title);
    for (const double mark : x_.marks) {
      const double x = left_ + x_.place(mark) * panel_width;
      line(x, top_, x, top_ + panel_height);
      text(x, top_ + panel_height + 16, "middle", "mark", mark_text(mark));
    }
    for (const double mark : y_.marks) {
      const double y = top_ + (1 - y_.place(mark)) * panel_height;
      line(left_, y, left_ + panel_width, y);
      text(left_ - 6, y + 4, "end", "mark", mark_text(mark) + std::string(y_unit));
    }
    text(left_ + panel_width, top_ + panel_height + 32, "end", "mark", x_unit);
  }

  void draw(const Curve& curve, std::string_view color) {
    if (curve.empty()) return;
    fmt::format_to(out(), "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" points=\"",
                   color);
    for (const Point& point : curve) {
      fmt::format_to(out(), "{:.1f},{:.1f} ", left_ + x_.place(point.x) * panel_width,
                     top_ + (1 - y_.place(point.y)) * panel_height);
    }
    svg_ += "\"/>\n";
  }

 private:
  std::back_insert_iterator<std::string> out() { return std::back_inserter(svg_); }

  void text(double x, double y, std::string_view anchor, std::string_view kind,
            std::string_view words) {
    fmt::format_to(out(),
                   "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x,
                   y, anchor, kind, escaped(words));
  }

  void line(double x1, double y1, double x2, double y2) {
    fmt::format_to(out(),
                   "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
                   "stroke=\"#dddddd\"/>\n",
                   x1, y1, x2, y2);
  }

  std::string& svg_;
  double left_, top_;
  Axis x_, y_;
};

// The times of one kind that a record holds.
using TimesOf = std::function<void(const RequestRecord&, std::vector<double>&)>;

std::vector<std::vector<double>> collect(const RunResult& result, size_t groups,
                                         const TimesOf& times_of) {
  std::vector<std::vector<double>> values(groups);
  for (const RequestRecord& record : result.records) {
    if (record.outcome == RequestRecord::Outcome::failed) continue;
    times_of(record, values.at(static_cast<size_t>(record.group)));
  }
  for (auto& list : values) std::sort(list.begin(), list.end());
  return values;
}

// How many percent of the sorted values are at most so long.
Curve distribution(const std::vector<double>& sorted, double shortest_ms) {
  Curve curve;
  for (int i = 0; !sorted.empty() && i <= curve_points; ++i) {
    const double percent = 100.0 * i / curve_points;
    curve.push_back({std::max(shortest_ms, percentile(sorted, percent)), percent});
  }
  return curve;
}

void draw_distribution(std::string& svg, int column, int row, std::string_view title,
                       const std::vector<std::vector<double>>& values) {
  // Text that came in one piece has gaps of 0, which a logarithmic axis cannot show.
  constexpr double shortest_ms = 0.1;
  double least = 1e9;
  double most = 0;
  for (const auto& sorted : values) {
    if (sorted.empty()) continue;
    least = std::min(least, std::max(shortest_ms, percentile(sorted, 1)));
    most = std::max(most, sorted.back());
  }
  if (most == 0) least = most = 1;
  Panel panel(svg, column, row, {logarithmic_marks(least, std::max(least, most)), true},
              {{0, 25, 50, 75, 95, 100}});
  panel.draw_frame(title, "ms", " %");
  for (size_t i = 0; i < values.size(); ++i) {
    panel.draw(distribution(values[i], shortest_ms), colors[i % colors.size()]);
  }
}

// The pieces of text of each moment, as a speed.
std::vector<Curve> speeds(const RunResult& result, size_t groups) {
  const double step_s = std::max(result.duration_s, 0.001) / speed_points;
  std::vector<Curve> curves(groups);
  for (Curve& curve : curves) {
    for (int i = 0; i < speed_points; ++i) curve.push_back({(i + 0.5) * step_s, 0});
  }
  for (const RequestRecord& record : result.records) {
    if (!record.first_token_ms) continue;
    Curve& curve = curves.at(static_cast<size_t>(record.group));
    const auto count = [&](double at_ms) {
      const auto moment = static_cast<int>(at_ms / 1000 / step_s);
      curve[static_cast<size_t>(std::clamp(moment, 0, speed_points - 1))].y += 1 / step_s;
    };
    double at_ms = record.due_ms + *record.first_token_ms;
    count(at_ms);
    for (const float gap_ms : record.gaps_ms) count(at_ms += gap_ms);
  }
  return curves;
}

void draw_speeds(std::string& svg, int column, int row, const RunResult& result, size_t groups) {
  const std::vector<Curve> curves = speeds(result, groups);
  double most = 1;
  for (const Curve& curve : curves) {
    for (const Point& point : curve) most = std::max(most, point.y);
  }
  Panel panel(svg, column, row, {linear_marks(std::max(result.duration_s, 0.001))},
              {linear_marks(most)});
  panel.draw_frame("Pieces of text a second", "s", "");
  for (size_t i = 0; i < groups; ++i) panel.draw(curves[i], colors[i % colors.size()]);
}

void draw_legend(std::string& svg, const std::vector<Group>& groups) {
  if (groups.size() < 2) return;
  double x = left_margin;
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string_view color = colors[i % colors.size()];
    fmt::format_to(std::back_inserter(svg),
                   "<rect x=\"{:.0f}\" y=\"40\" width=\"18\" height=\"4\" fill=\"{}\"/>\n"
                   "<text x=\"{:.0f}\" y=\"46\" class=\"mark\">{}</text>\n",
                   x, color, x + 24, escaped(groups[i].name));
    x += 60 + 7.0 * static_cast<double>(groups[i].name.size());
  }
}

// The mark `index` of the series ..., 1, 2, 5, 10, 20, 50, ...; mark 0 is 1.
double mark_of(int index) {
  constexpr std::array<double, 3> steps = {1, 2, 5};
  const int decade = index >= 0 ? index / 3 : -((2 - index) / 3);
  return steps[static_cast<size_t>(index - 3 * decade)] * std::pow(10.0, decade);
}

}  // namespace

std::vector<double> logarithmic_marks(double least, double most) {
  constexpr double slack = 1 + 1e-9;  // 10^-1 is not exactly a tenth
  int index = 3 * static_cast<int>(std::floor(std::log10(least))) - 1;
  while (mark_of(index + 1) <= least * slack) ++index;
  std::vector<double> marks = {mark_of(index)};
  while (marks.back() * slack < most || marks.size() < 2) marks.push_back(mark_of(++index));
  return marks;
}

std::vector<double> linear_marks(double most) {
  constexpr int most_steps = 10;
  int index = 3 * static_cast<int>(std::floor(std::log10(most / most_steps))) - 1;
  while (mark_of(index) * most_steps < most) ++index;
  const double step = mark_of(index);
  std::vector<double> marks = {0};
  while (marks.back() < most) marks.push_back(step * static_cast<double>(marks.size()));
  return marks;
}

std::string plot_svg(std::string_view title, const RunResult& result,
                     const std::vector<Group>& groups) {
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"Helvetica, Arial, sans-serif\">\n"
      "<style>.title {{ font-size: 15px; }} .panel {{ font-size: 13px; }} "
      ".mark {{ font-size: 11px; fill: #555555; }}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2:.0f}\" y=\"26\" class=\"title\">{3}</text>\n",
      picture_width, picture_height, left_margin, escaped(title));
  draw_legend(svg, groups);
  const size_t count = groups.size();
  draw_distribution(svg, 0, 0, "Time to the first token: answers that took at most so long",
                    collect(result, count, [](const RequestRecord& record, auto& values) {
                      if (record.first_token_ms) values.push_back(*record.first_token_ms);
                    }));
  draw_distribution(svg, 1, 0, "Time between tokens",
                    collect(result, count, [](const RequestRecord& record, auto& values) {
                      values.insert(values.end(), record.gaps_ms.begin(), record.gaps_ms.end());
                    }));
  draw_distribution(svg, 0, 1, "Time to the end of the answer",
                    collect(result, count, [](const RequestRecord& record, auto& values) {
                      if (record.outcome == RequestRecord::Outcome::ok) {
                        values.push_back(record.total_ms);
                      }
                    }));
  draw_speeds(svg, 1, 1, result, count);
  return svg + "</svg>\n";
}

}  // namespace ridge::loadgen
