#include "cli/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "cli/bench_serve_table.h"
#include "cli/config.h"
#include "cli/interrupt.h"
#include "loadgen/calibration.h"
#include "loadgen/load_run.h"
#include "loadgen/plot.h"
#include "loadgen/report_json.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;
using loadgen::Group;
using loadgen::Target;
using loadgen::Workload;

constexpr const char* default_prompt_tokens = "512";
constexpr const char* default_output_tokens = "128";
constexpr uint64_t default_requests = 64;
constexpr int warm_up_clients = 4;

// Everything that can be wrong with the options, found before the server is asked anything.
struct Plan {
  Target target;
  loadgen::WorkloadOptions workload;
  loadgen::RunPlan run;
  loadgen::Objective objective;
};

std::vector<Group> groups_of(const BenchServeOptions& options) {
  std::vector<Group> groups;
  for (const std::string& text : options.groups) {
    groups.push_back(loadgen::parse_group(text, options.api_key));
    for (size_t i = 0; i + 1 < groups.size(); ++i) {
      if (groups[i].name != groups.back().name) continue;
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--group '{}' is there twice", groups[i].name));
    }
  }
  if (!groups.empty()) return groups;
  Group only{.name = "all", .api_key = options.api_key};
  only.requests_per_s = options.requests_per_s;
  only.clients = options.clients;
  const bool by_trace = !options.trace.empty();
  if (only.requests_per_s == 0 && only.clients == 0 && !by_trace) only.clients = 1;
  return {only};
}

Plan plan_of(const BenchServeOptions& options) {
  Plan plan;
  plan.target.base_url = loadgen::base_url_of(options.url);
  plan.target.endpoint =
      options.endpoint == "chat" ? loadgen::Endpoint::chat : loadgen::Endpoint::completions;
  plan.target.model = options.model;
  plan.target.temperature = options.temperature;
  plan.target.ignore_eos = options.ignore_eos;
  loadgen::check_extra_body(options.extra_body);
  plan.target.extra_body = options.extra_body;

  loadgen::WorkloadOptions& workload = plan.workload;
  workload.seed = options.seed;
  workload.prompt_tokens = loadgen::LengthDistribution::parse(
      options.prompt_tokens.empty() ? default_prompt_tokens : options.prompt_tokens,
      "--prompt-tokens");
  workload.output_tokens = loadgen::LengthDistribution::parse(
      options.output_tokens.empty() ? default_output_tokens : options.output_tokens,
      "--output-tokens");
  workload.prefix_tokens = options.prefix_tokens;
  workload.prefixes = options.prefixes;
  workload.leaving_share = options.leaving_share;
  if (!options.trace.empty()) workload.trace = loadgen::read_trace(options.trace);

  plan.run.groups = groups_of(options);
  plan.run.requests = options.requests;
  plan.run.duration_s = options.duration_s;
  if (options.requests == 0 && options.duration_s == 0) {
    plan.run.requests = workload.trace.empty() ? default_requests : workload.trace.size();
  }
  plan.run.retries_refused = options.retry_refused;
  plan.run.timeout = std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1000));
  plan.objective = {options.slo_ttft_ms, options.slo_itl_ms};
  return plan;
}

// The line that is drawn over itself while a load runs.
class ProgressLine {
 public:
  ProgressLine(const Context& context, std::string label)
      : label_(std::move(label)),
        enabled_(!context.quiet && !context.json && context.terminal().is_terminal(Stream::error)) {
  }
  ~ProgressLine() {
    if (drawn_) std::fputs("\r\033[2K", stderr);
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(const loadgen::RunProgress& now) {
    if (!enabled_ || (drawn_ && now.elapsed_s - drawn_at_s_ < 0.25)) return;
    drawn_ = true;
    drawn_at_s_ = now.elapsed_s;
    fmt::print(stderr, "\r\033[2K{} {:.0f} s: {} running, {} answered, {} failed", label_,
               now.elapsed_s, now.running, now.ok, now.failed);
    std::fflush(stderr);
  }

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  double drawn_at_s_ = 0;
};

loadgen::RunResult run(const Context& context, loadgen::HttpPool& pool, const Plan& plan,
                       const Workload& workload, const loadgen::RunPlan& run_plan,
                       const std::string& label) {
  ProgressLine line(context, label);
  return loadgen::run_load(pool, plan.target, workload, run_plan,
                           [&](const loadgen::RunProgress& now) {
                             line.update(now);
                             return !InterruptScope::requested();
                           });
}

// So that caches of shared prefixes are warm for each group, and the server's memory is touched.
void warm_up(const Context& context, loadgen::HttpPool& pool, const Plan& plan,
             const Workload& workload, uint64_t requests) {
  for (const Group& group : plan.run.groups) {
    loadgen::RunPlan run_plan = plan.run;
    run_plan.groups = {group};
    run_plan.groups[0].requests_per_s = 0;
    run_plan.groups[0].clients = static_cast<int>(std::min<uint64_t>(requests, warm_up_clients));
    run_plan.requests = requests;
    run_plan.duration_s = 0;
    run_plan.purpose = Workload::Purpose::warm_up;
    run(context, pool, plan, workload, run_plan, "warming up");
  }
}

loadgen::PromptScale scale_for(loadgen::HttpPool& pool, const Plan& plan,
                               const BenchServeOptions& options) {
  if (options.tokens_per_word > 0) return {.tokens_per_word = options.tokens_per_word};
  const auto& trace = plan.workload.trace;
  const auto has_words = [](const loadgen::TraceEntry& entry) { return !entry.prompt.empty(); };
  if (!trace.empty() && options.prefix_tokens == 0 &&
      std::all_of(trace.begin(), trace.end(), has_words)) {
    return {};  // no prompt is made of words of ours
  }
  const int typical = trace.empty() ? plan.workload.prompt_tokens.typical()
                                    : std::max(1, trace.front().prompt_tokens);
  return loadgen::calibrate(pool, plan.target, plan.run.groups[0].api_key, typical);
}

// Fails before minutes of load where the picture could not be kept.
std::optional<std::ofstream> open_picture(const std::string& file) {
  if (file.empty()) return std::nullopt;
  std::ofstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorCode::io, fmt::format("cannot write the picture {}", file));
  return stream;
}

void write_picture(std::ofstream& stream, const std::string& file, const std::string& svg) {
  stream << svg;
  stream.flush();
  if (!stream) throw Error(ErrorCode::io, fmt::format("cannot write the picture {}", file));
}

Json settings_json(const Plan& plan, const BenchServeOptions& options,
                   const loadgen::PromptScale& scale) {
  Json body = {{"url", plan.target.url()},
               {"model", plan.target.model},
               {"seed", options.seed},
               {"tokens_per_word", scale.tokens_per_word},
               {"fixed_prompt_tokens", scale.fixed_tokens},
               {"load", Json::array()}};
  for (const Group& group : plan.run.groups) {
    Json part = {{"name", group.name}};
    if (group.clients > 0) part["clients"] = group.clients;
    if (group.requests_per_s > 0) part["requests_per_second"] = group.requests_per_s;
    body["load"].push_back(std::move(part));
  }
  return body;
}

}  // namespace

void bench_serve(Context& context, const BenchServeOptions& options) {
  Plan plan = plan_of(options);
  std::optional<std::ofstream> picture = open_picture(options.svg);
  const InterruptScope interrupts;
  loadgen::HttpPool pool;
  const std::string& key = plan.run.groups[0].api_key;
  if (plan.target.model.empty()) {
    plan.target.model = loadgen::ask_for_model(pool, plan.target, key);
  }
  const loadgen::PromptScale scale = scale_for(pool, plan, options);
  const Workload workload(plan.workload, scale);
  if (options.warm_up > 0) warm_up(context, pool, plan, workload, options.warm_up);
  const loadgen::RunResult result = run(context, pool, plan, workload, plan.run, "loading");
  const loadgen::Report report = loadgen::make_report(result, plan.run.groups, plan.objective);

  const std::string title = fmt::format("{} at {}", plan.target.model, plan.target.url());
  if (picture) {
    write_picture(*picture, options.svg, loadgen::plot_svg(title, result, plan.run.groups));
  }
  if (context.json) {
    Json body = settings_json(plan, options, scale);
    body.update(loadgen::report_json(report));
    context.print(body.dump());
  } else {
    print_report(context, title, report);
  }
  if (report.interrupted) {
    context.exit_code = ExitCode::interrupted;
  } else if (report.all.ok + report.all.left == 0) {
    context.exit_code = ExitCode::failure;
  }
}

void add_bench_serve_options(CLI::App& command, CLI::Option* serve, BenchServeOptions& options) {
  std::vector<CLI::Option*> added;
  const auto add = [&](const char* name, auto& variable, const char* description) {
    added.push_back(command.add_option(name, variable, description));
    return added.back();
  };
  const auto add_switch = [&](const char* name, bool& variable, const char* description) {
    added.push_back(command.add_flag(name, variable, description));
    return added.back();
  };
  CLI::Option* clients =
      add("--concurrency", options.clients,
          "Clients that each send their next request when the last has ended (1)");
  clients->check(CLI::Range(1, 4096));
  CLI::Option* rate = add("--rate", options.requests_per_s,
                          "Requests a second instead, arriving at random (a Poisson process)");
  rate->check(CLI::Range(0.001, 1e5))->excludes(clients);
  CLI::Option* groups =
      add("--group", options.groups,
          "NAME,rate=R,key=KEY or NAME,clients=N,key=env:VARIABLE: one of several senders with "
          "keys and loads of their own; give it once for each");
  groups->allow_extra_args(false)->excludes(clients)->excludes(rate);
  add("--requests", options.requests, "End after so many (64, where there is no --duration)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40));
  add("--duration", options.duration_s, "Send for so many seconds, then await what runs")
      ->check(CLI::Range(0.1, 1e7));
  add("--warmup", options.warm_up, "Requests of each sender before, which do not count")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 20));
  add("--shared-prefix", options.prefix_tokens,
      "Tokens that each prompt begins with, beside its own --prompt-tokens")
      ->check(CLI::Range(1, 1 << 20));
  add("--shared-prefixes", options.prefixes, "So many different ones, drawn at random (1)")
      ->check(CLI::Range(1, 1 << 20));
  add("--trace", options.trace,
      "JSON lines {\"arrival_ms\", \"prompt\" or \"prompt_tokens\", \"output_tokens\"} to send; "
      "--concurrency or --rate go before its arrivals")
      ->type_name("FILE")
      ->excludes(groups);
  add("--endpoint", options.endpoint, "chat or completions (chat)")
      ->check(CLI::IsMember({"chat", "completions"}));
  add("--api-key", options.api_key, "Sent as a bearer token")->envname("RIDGE_API_KEY");
  add("--seed", options.seed, "The same seed sends the same requests (1)");
  add_switch("--ignore-eos", options.ignore_eos,
             "Ask for answers of full length (a field that ridge, vLLM and llama.cpp know)");
  add("--temperature", options.temperature, "Of each request (0)")->check(CLI::Range(0.0, 2.0));
  add("--extra-body", options.extra_body, "A JSON object of further fields of each request");
  add("--disconnect", options.leaving_share,
      "The share of clients, 0 to 1, that close their connection at a random point")
      ->check(CLI::Range(0.0, 1.0));
  add_switch("--retry-429", options.retry_refused,
             "Try again when Retry-After says; the wait counts");
  add("--timeout", options.timeout_s, "Seconds of a request, then it has failed (600)")
      ->check(CLI::Range(0.1, 86400.0));
  add("--tokens-per-word", options.tokens_per_word,
      "Instead of asking the server how it counts the words of prompts")
      ->check(CLI::Range(0.1, 100.0));
  add("--slo-ttft-ms", options.slo_ttft_ms, "Count answers whose first token came in time")
      ->check(CLI::Range(0.001, 1e9));
  add("--slo-itl-ms", options.slo_itl_ms, "... and whose tokens followed in time, on average")
      ->check(CLI::Range(0.001, 1e9));
  add("--svg", options.svg, "Draw the distributions and speeds")->type_name("FILE");
  for (CLI::Option* option : added) option->group("Against a server (--serve URL)");
  // A key in the environment does not ask for a server by itself.
  for (CLI::Option* option : added) {
    if (option->get_envname().empty()) option->needs(serve);
  }
}

}  // namespace ridge::cli
