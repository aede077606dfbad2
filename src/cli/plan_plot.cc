#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "cli/plan_report.h"
#include "plot/panel.h"

namespace ridge::cli {
namespace {

using planner::StepCost;

// In pixels.
constexpr double plan_panel_width = 470;
constexpr double plan_panel_height = 330;
constexpr double plan_left = 72;
constexpr double plan_top = 96;
constexpr double plan_step = plan_panel_width + 96;
constexpr double plan_width = plan_left + plan_step + plan_panel_width + 30;
constexpr double plan_height = plan_top + plan_panel_height + 52;

// Where a pass lies: FLOP a byte of memory, and TFLOP/s of one device.
struct Spot {
  plot::Point roofline;
  plot::Point pace;  // ms a token, tokens/s of one device
  double batch;      // of all devices
};

struct DeviceCurves {
  const PlanEntry* entry;
  double roof_tflops;
  double bandwidth_tbps;
  std::vector<Spot> decode;  // over batches of 1, 2, 4, ... and the plan's own
  plot::Point prefill;
};

plot::Point roofline_point(const StepCost& step, const planner::Device& device) {
  return {step.flops() / step.bytes(), step.flops() / step.seconds * device.ranks / 1e12};
}

DeviceCurves curves_of(const PlanReport& report, const PlanEntry& entry) {
  const planner::Plan& plan = *entry.plan;
  const planner::Question& question = report.question;
  const auto arithmetic = entry.device.arithmetic(question.formats.weights.arithmetic);
  DeviceCurves curves{.entry = &entry,
                      .roof_tflops = entry.device.flops_per_second(arithmetic) / 1e12,
                      .bandwidth_tbps = entry.device.memory_gbps.value / 1e3,
                      .prefill = roofline_point(plan.prefill.step, entry.device)};
  const double most = plan.batch / plan.layout.replicas;
  const auto add = [&](double batch) {
    const planner::DecodeBound bound =
        planner::decode_bound(report.shape, question.formats, plan.layout, entry.device, batch,
                              question.context_tokens(), question.speculation);
    curves.decode.push_back({.roofline = roofline_point(bound.step, entry.device),
                             .pace = {bound.tpot_ms, bound.tokens_per_second},
                             .batch = batch * plan.layout.replicas});
  };
  for (double batch = 1; batch < most; batch *= 2) add(batch);
  add(most);
  return curves;
}

// A logarithmic axis by powers of ten that holds all values, which are finite and above 0.
plot::Axis decades(double least, double most) {
  RIDGE_ASSERT(least > 0 && most > 0 && std::isfinite(least) && std::isfinite(most));
  std::vector<double> marks;
  const int first = static_cast<int>(std::floor(std::log10(least)));
  const int last = std::max(first + 1, static_cast<int>(std::ceil(std::log10(most))));
  for (int power = first; power <= last; ++power) marks.push_back(std::pow(10.0, power));
  return {.marks = std::move(marks), .logarithmic = true};
}

// Every other line has gaps, so that one of the same figures behind it is seen.
std::string_view dashes_of(size_t index) { return index % 2 == 0 ? "" : "6 4"; }

struct Range {
  double least = 1e300, most = 0;

  void hold(double value) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
};

void draw_rooflines(std::string& svg, const std::vector<DeviceCurves>& all) {
  Range x, y;
  for (const DeviceCurves& each : all) {
    x.hold(each.roof_tflops / each.bandwidth_tbps * 2);
    x.hold(each.prefill.x);
    y.hold(each.roof_tflops);
    y.hold(each.prefill.y);
    for (const Spot& spot : each.decode) {
      x.hold(spot.roofline.x);
      y.hold(spot.roofline.y);
    }
  }
  const plot::Axis x_axis = decades(x.least, x.most);
  const plot::Axis y_axis = decades(y.least, y.most);
  plot::Panel panel(svg, {plan_left, plan_top, plan_panel_width, plan_panel_height}, x_axis,
                    y_axis);
  panel.draw_frame("Roofline of one device: dots decode, diamonds read prompts",
                   "FLOP for each byte of memory read", "", "TFLOP/s");
  for (size_t i = 0; i < all.size(); ++i) {
    const DeviceCurves& each = all[i];
    const double ridge = each.roof_tflops / each.bandwidth_tbps;
    // Where the slope comes into the panel.
    const double left = std::max(x_axis.marks.front(), y_axis.marks.front() / each.bandwidth_tbps);
    panel.draw({{left, left * each.bandwidth_tbps},
                {ridge, each.roof_tflops},
                {x_axis.marks.back(), each.roof_tflops}},
               plot::color(i), dashes_of(i));
    for (const Spot& spot : each.decode) {
      panel.draw_dot(
          spot.roofline, plot::color(i), 3,
          fmt::format("{}: decode, {:.0f} sequences", each.entry->device.name, spot.batch));
    }
    panel.draw_diamond(each.prefill, plot::color(i), 6,
                       fmt::format("{}: prompts", each.entry->device.name));
  }
}

void draw_paces(std::string& svg, const std::vector<DeviceCurves>& all) {
  Range x, y;
  for (const DeviceCurves& each : all) {
    for (const Spot& spot : each.decode) {
      x.hold(spot.pace.x);
      y.hold(spot.pace.y);
    }
  }
  plot::Panel panel(svg, {plan_left + plan_step, plan_top, plan_panel_width, plan_panel_height},
                    {plot::logarithmic_marks(x.least, std::max(x.most, x.least * 1.01)), true},
                    {plot::logarithmic_marks(y.least, std::max(y.most, y.least * 1.01)), true});
  panel.draw_frame("Decoding, each dot twice the sequences of the one before it",
                   "ms from one token of a sequence to its next", "", "tokens/s of one device");
  for (size_t i = 0; i < all.size(); ++i) {
    plot::Curve curve;
    for (const Spot& spot : all[i].decode) curve.push_back(spot.pace);
    panel.draw(curve, plot::color(i), dashes_of(i));
    for (const Spot& spot : all[i].decode) {
      panel.draw_dot(spot.pace, plot::color(i), 3,
                     fmt::format("{}: {:.0f} sequences on {}", all[i].entry->device.name,
                                 spot.batch, all[i].entry->plan->devices));
    }
  }
}

void draw_plan_legend(std::string& svg, const std::vector<DeviceCurves>& all) {
  double x = plan_left;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name =
        fmt::format("{} x{}", all[i].entry->device.name, all[i].entry->plan->devices);
    fmt::format_to(std::back_inserter(svg),
                   "<rect x=\"{:.0f}\" y=\"46\" width=\"18\" height=\"4\" fill=\"{}\"/>\n"
                   "<text x=\"{:.0f}\" y=\"52\" class=\"mark\">{}</text>\n",
                   x, plot::color(i), x + 24, plot::escaped(name));
    x += 54 + 7.0 * static_cast<double>(name.size());
  }
}

}  // namespace

std::string plan_svg(const PlanReport& report) {
  std::vector<DeviceCurves> all;
  for (const PlanEntry& entry : report.entries) {
    if (entry.plan) all.push_back(curves_of(report, entry));
  }
  const std::string title =
      fmt::format("{}, weights {}, prompts of {:g} and answers of {:g} tokens", report.shape.name,
                  report.question.formats.weights.name, report.question.prompt_tokens,
                  report.question.output_tokens);
  std::string svg = plot::picture_head(plan_width, plan_height, plan_left, title);
  if (!all.empty()) {
    draw_plan_legend(svg, all);
    draw_rooflines(svg, all);
    draw_paces(svg, all);
  }
  return svg + "</svg>\n";
}

}  // namespace ridge::cli
