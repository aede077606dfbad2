#include "cli/profile_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

namespace ridge::cli {
namespace {

Table::Column numbers(std::string title) { return {std::move(title), Alignment::right}; }

std::string time_text(double microseconds) {
  if (microseconds >= 10000) return fmt::format("{:.2f} ms", microseconds / 1000);
  return microseconds >= 100 ? fmt::format("{:.0f} us", microseconds)
                             : fmt::format("{:.1f} us", microseconds);
}

std::string percent_text(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : "-";
}

bool costs_the_same(const backend::LaunchProfile& a, const backend::LaunchProfile& b) {
  return a.kernel == b.kernel && a.blocks == b.blocks && a.hbm_bytes == b.hbm_bytes &&
         a.moved_bytes == b.moved_bytes && a.macs == b.macs && a.microseconds == b.microseconds;
}

std::string step_title(const ProfiledStep& step) {
  const engine::StepForm& form = step.form;
  if (step.phase == "decode") {
    return fmt::format("decode: {} {} behind {} tokens", form.sequences,
                       form.sequences == 1 ? "row" : "rows", form.depth_tokens);
  }
  return fmt::format("prefill: {} tokens behind {}", form.tokens, form.depth_tokens);
}

void print_step(const Context& context, const ProfileReport& report, const ProfiledStep& step) {
  const double total_us = step.kernel_us();
  Table table({{"kernel"}, numbers("launches"), numbers("each"), numbers("all"), numbers("share"),
               {"limited by"}, numbers("HBM"), numbers("L2"), numbers("of roofline")});
  for (const KernelRow& row : step.kernels) {
    const backend::LaunchProfile& each = *row.each;
    table.add_row({each.kernel, fmt::format("{}", row.launches), time_text(each.microseconds),
                   time_text(row.microseconds()), percent_text(row.microseconds(), total_us),
                   each.limited_by, format_bytes(static_cast<int64_t>(each.hbm_bytes)),
                   format_bytes(static_cast<int64_t>(each.moved_bytes)),
                   percent_text(each.least_us, each.microseconds)});
  }
  context.print("\n" + step_title(step));
  context.print(table.to_string(context.terminal(), Stream::output));
  const double tokens = static_cast<double>(step.form.sequences) * step.form.tokens;
  context.print(fmt::format(
      "kernels {}, {} of the roofline; {} launches cost {} more ({:g} us each, also when a graph is "
      "replayed): {:.0f} tokens/s",
      time_text(total_us), percent_text(step.least_us(), total_us), step.profile.launches.size(),
      time_text(step.task_us()), step.profile.task_overhead_us,
      1e6 * tokens / (total_us + step.task_us())));
  if (report.experts > 0) {
    context.print(fmt::format("experts: in each layer {} choices of tokens, spread evenly over {} of {}",
                              report.choices_of(step.form), report.experts_with_work(step.form),
                              report.experts));
  }
  if (!step.profile.host_ops.empty()) {
    context.print(fmt::format("not in it, for want of a kernel (the host computes them): {}",
                              fmt::join(step.profile.host_ops, ", ")));
  }
}

nlohmann::ordered_json pipe_json(const backend::PipeProfile& pipe) {
  return {{"pipe", pipe.name},
          {"busy_us", pipe.busy_us},
          {"instructions", pipe.instructions},
          {"bytes", pipe.bytes},
          {"repeats", pipe.repeats},
          {"bank_conflict_cycles", pipe.bank_conflicts},
          {"lines_512", pipe.lines_512},
          {"nd_nz_rows", pipe.nd_nz_rows},
          {"macs", pipe.macs}};
}

nlohmann::ordered_json kernel_json(const KernelRow& row, double total_us) {
  const backend::LaunchProfile& each = *row.each;
  nlohmann::ordered_json pipes = nlohmann::ordered_json::array();
  for (const backend::PipeProfile& pipe : each.pipes) pipes.push_back(pipe_json(pipe));
  return {{"kernel", each.kernel},
          {"blocks", each.blocks},
          {"launches", row.launches},
          {"each_us", each.microseconds},
          {"all_us", row.microseconds()},
          {"share", total_us > 0 ? row.microseconds() / total_us : 0},
          {"limited_by", each.limited_by},
          {"hbm_bytes", each.hbm_bytes},
          {"moved_bytes", each.moved_bytes},
          {"macs", each.macs},
          {"least_us", each.least_us},
          {"pipes", pipes}};
}

}  // namespace

double ProfiledStep::kernel_us() const {
  double sum = 0;
  for (const KernelRow& row : kernels) sum += row.microseconds();
  return sum;
}

double ProfiledStep::least_us() const {
  double sum = 0;
  for (const KernelRow& row : kernels) sum += row.launches * row.each->least_us;
  return sum;
}

double ProfiledStep::task_us() const {
  return static_cast<double>(profile.launches.size()) * profile.task_overhead_us;
}

ProfiledStep make_profiled_step(std::string phase, const engine::StepForm& form,
                                backend::StepProfile profile) {
  ProfiledStep step{std::move(phase), form, std::move(profile), {}};
  for (const auto& launch : step.profile.launches) {
    const auto known = std::ranges::find_if(step.kernels, [&](const KernelRow& row) {
      return row.each == launch || costs_the_same(*row.each, *launch);
    });
    if (known != step.kernels.end()) {
      ++known->launches;
    } else {
      step.kernels.push_back({launch, 1});
    }
  }
  std::ranges::stable_sort(step.kernels, std::greater(), &KernelRow::microseconds);
  return step;
}

void print_profile(const Context& context, const ProfileReport& report) {
  context.print(fmt::format("{}{} on {}, by the count of instructions (docs/ascend.md)",
                            printable(report.model),
                            report.weights.empty() ? "" : fmt::format(" in {}", report.weights),
                            report.device));
  if (report.is_too_large()) {
    context.print(fmt::format("weights take {}, and the chip has {}: counted as if it held them",
                              format_bytes(static_cast<int64_t>(report.weight_bytes)),
                              format_bytes(static_cast<int64_t>(report.memory_bytes))));
  }
  for (const ProfiledStep& step : report.steps) print_step(context, report, step);
}

nlohmann::ordered_json profile_json(const ProfileReport& report) {
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (const ProfiledStep& step : report.steps) {
    const double total_us = step.kernel_us();
    nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
    for (const KernelRow& row : step.kernels) kernels.push_back(kernel_json(row, total_us));
    nlohmann::ordered_json body = {{"phase", step.phase},
                                   {"sequences", step.form.sequences},
                                   {"tokens", step.form.tokens},
                                   {"depth_tokens", step.form.depth_tokens},
                                   {"kernel_us", total_us},
                                   {"least_us", step.least_us()},
                                   {"launches", step.profile.launches.size()},
                                   {"task_overhead_us", step.profile.task_overhead_us},
                                   {"task_us", step.task_us()},
                                   {"host_ops", step.profile.host_ops}};
    if (report.experts > 0) {
      body["expert_choices"] = report.choices_of(step.form);
      body["experts_with_work"] = report.experts_with_work(step.form);
    }
    body["kernels"] = kernels;
    steps.push_back(body);
  }
  nlohmann::ordered_json body = {{"model", report.model}, {"device", report.device}};
  if (!report.weights.empty()) body["weights"] = report.weights;
  body["weight_bytes"] = report.weight_bytes;
  body["memory_bytes"] = report.memory_bytes;
  if (report.experts > 0) body["experts"] = report.experts;
  body["steps"] = steps;
  return body;
}

std::string profile_trace(const ProfileReport& report) {
  // Rows stand in the order of these.
  constexpr const char* cores[] = {"AIC", "AIV0", "AIV1"};
  constexpr const char* pipes[] = {"S", "MTE2", "MTE1", "M", "V", "FIX", "MTE3"};
  std::map<std::string, int> rows{{"kernels", 0}};
  for (const char* core : cores) {
    for (const char* pipe : pipes) {
      rows.emplace(fmt::format("{} {}", core, pipe), static_cast<int>(rows.size()));
    }
  }
  std::string out = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  bool is_first = true;
  const auto add = [&](const nlohmann::ordered_json& event) {
    if (!is_first) out += ",\n";
    is_first = false;
    out += event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  };
  for (size_t s = 0; s < report.steps.size(); ++s) {
    const ProfiledStep& step = report.steps[s];
    const auto process = static_cast<int>(s) + 1;
    add({{"ph", "M"},
         {"pid", process},
         {"name", "process_name"},
         {"args", {{"name", fmt::format("{} on {}, {}", report.model, report.device,
                                        step_title(step))}}}});
    std::set<std::string> used{"kernels"};
    for (const auto& launch : step.profile.launches) {
      for (const backend::PipeSpan& span : launch->timeline) used.insert(span.pipe);
    }
    for (const std::string& row : used) {
      const int thread = rows.at(row);
      add({{"ph", "M"},
           {"pid", process},
           {"tid", thread},
           {"name", "thread_name"},
           {"args", {{"name", row}}}});
      add({{"ph", "M"},
           {"pid", process},
           {"tid", thread},
           {"name", "thread_sort_index"},
           {"args", {{"sort_index", thread}}}});
    }
    double at_us = 0;
    for (const auto& launch : step.profile.launches) {
      at_us += step.profile.task_overhead_us;
      add({{"ph", "X"},
           {"pid", process},
           {"tid", 0},
           {"name", launch->kernel},
           {"ts", at_us},
           {"dur", launch->microseconds},
           {"args",
            {{"blocks", launch->blocks},
             {"limited_by", launch->limited_by},
             {"hbm_bytes", launch->hbm_bytes}}}});
      for (const backend::PipeSpan& span : launch->timeline) {
        add({{"ph", "X"},
             {"pid", process},
             {"tid", rows.at(span.pipe)},
             {"name", span.call},
             {"ts", at_us + span.start_us},
             {"dur", span.end_us - span.start_us},
             {"args", {{"at", span.place}, {"instructions", span.instructions}}}});
      }
      at_us += launch->microseconds;
    }
  }
  return out + "\n]}\n";
}

}  // namespace ridge::cli
