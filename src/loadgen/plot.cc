#include "loadgen/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "loadgen/summary.h"
#include "plot/panel.h"

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

plot::Rectangle panel_at(int column, int row) {
  return {left_margin + column * column_step, top_margin + row * row_step, panel_width,
          panel_height};
}

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
plot::Curve distribution(const std::vector<double>& sorted, double shortest_ms) {
  plot::Curve curve;
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
  plot::Panel panel(svg, panel_at(column, row),
                    {plot::logarithmic_marks(least, std::max(least, most)), true},
                    {{0, 25, 50, 75, 95, 100}});
  panel.draw_frame(title, "ms", " %");
  for (size_t i = 0; i < values.size(); ++i) {
    panel.draw(distribution(values[i], shortest_ms), plot::color(i));
  }
}

// The pieces of text of each moment, as a speed.
std::vector<plot::Curve> speeds(const RunResult& result, size_t groups) {
  const double step_s = std::max(result.duration_s, 0.001) / speed_points;
  std::vector<plot::Curve> curves(groups);
  for (plot::Curve& curve : curves) {
    for (int i = 0; i < speed_points; ++i) curve.push_back({(i + 0.5) * step_s, 0});
  }
  for (const RequestRecord& record : result.records) {
    if (!record.first_token_ms) continue;
    plot::Curve& curve = curves.at(static_cast<size_t>(record.group));
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
  const std::vector<plot::Curve> curves = speeds(result, groups);
  double most = 1;
  for (const plot::Curve& curve : curves) {
    for (const plot::Point& point : curve) most = std::max(most, point.y);
  }
  plot::Panel panel(svg, panel_at(column, row),
                    {plot::linear_marks(std::max(result.duration_s, 0.001))},
                    {plot::linear_marks(most)});
  panel.draw_frame("Pieces of text a second", "s", "");
  for (size_t i = 0; i < groups; ++i) panel.draw(curves[i], plot::color(i));
}

void draw_legend(std::string& svg, const std::vector<Group>& groups) {
  if (groups.size() < 2) return;
  double x = left_margin;
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string_view color = plot::color(i);
    fmt::format_to(std::back_inserter(svg),
                   "<rect x=\"{:.0f}\" y=\"40\" width=\"18\" height=\"4\" fill=\"{}\"/>\n"
                   "<text x=\"{:.0f}\" y=\"46\" class=\"mark\">{}</text>\n",
                   x, color, x + 24, plot::escaped(groups[i].name));
    x += 60 + 7.0 * static_cast<double>(groups[i].name.size());
  }
}

}  // namespace

std::string plot_svg(std::string_view title, const RunResult& result,
                     const std::vector<Group>& groups) {
  std::string svg = plot::picture_head(picture_width, picture_height, left_margin, title);
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
