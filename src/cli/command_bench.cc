#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <memory>
#include <optional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/bench_machine.h"
#include "cli/bench_serve.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "engine/model_cost.h"
#include "engine/offline.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  std::string model;
  std::vector<int> batches = {1};
  std::vector<int> depths = {0};
  engine::Workload workload;
  int step_tokens = 512;
  std::optional<DType> kv_dtype;
  DeviceChoice device;
  bool machine = false;
  BenchServeOptions serve;
};

// Of one batch at one depth.
struct BenchResult {
  engine::Workload workload;
  engine::Throughput throughput;
  double prefill_share = 0;  // of the machine's arithmetic peak; 0 where that is not known
  double decode_share = 0;   // of its read bandwidth; likewise
};

struct BenchReport {
  int64_t peak_memory_bytes = 0;
  backend::DeviceLimits limits;
  std::vector<BenchResult> results;
};

// The most memory that this process ever had resident, from the kernel's VmHWM.
int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

// Lengths of one run here are numbers; distributions are for servers.
void read_tokens(const std::string& text, std::string_view option, int& tokens) {
  constexpr int most_tokens = 1 << 20;
  if (text.empty()) return;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), tokens);
  if (failure != std::errc() || end != text.data() + text.size() || tokens < 0 ||
      tokens > most_tokens) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} '{}' is no number from 0 to {}; ranges and distributions are for "
                            "--serve",
                            option, text, most_tokens));
  }
}

void check_tokens(const BenchOptions& options) {
  if (options.workload.prompt_tokens == 0 && options.workload.generated_tokens == 0) {
    throw Error(ErrorCode::invalid_argument, "nothing to measure: -p and -n are both 0");
  }
}

// Of one batch at each depth.
std::vector<BenchResult> measure(const engine::LoadedModel& model, int batch,
                                 const BenchOptions& options) {
  std::vector<std::unique_ptr<engine::StepRunner>> runners;
  std::vector<engine::TimedWorkload> timed;
  for (int depth : options.depths) {
    engine::Workload workload = options.workload;
    workload.batch = batch;
    workload.depth_tokens = depth;
    model.context_tokens(workload.context_tokens());  // throws where the model is not made for it
    engine::RunnerLimits limits = engine::workload_limits(workload, options.step_tokens);
    limits.kv_dtype = model.kv_dtype(options.kv_dtype);
    runners.push_back(engine::create_step_runner(model.device(), model.model(), limits));
    timed.push_back({*runners.back(), workload});
  }
  const std::vector<engine::Throughput> throughputs = engine::measure_throughput(timed, SteadyClock());
  std::vector<BenchResult> results;
  for (size_t i = 0; i < timed.size(); ++i) results.push_back({timed[i].workload, throughputs[i]});
  return results;
}

void compute_shares(BenchResult& result, const engine::ModelCost& cost,
                    const backend::DeviceLimits& limits) {
  const engine::Workload& workload = result.workload;
  if (limits.flops_per_second > 0 && workload.prompt_tokens > 0) {
    const double flops = cost.prefill_flops(workload.prompt_tokens, workload.depth_tokens);
    result.prefill_share = result.throughput.prefill_tokens_per_second / workload.prompt_tokens *
                           flops / limits.flops_per_second;
  }
  if (limits.read_bytes_per_second > 0 && workload.generated_tokens > 0) {
    const double context =
        workload.depth_tokens + workload.prompt_tokens + 0.5 * (workload.generated_tokens + 1.0);
    const double steps_per_second = result.throughput.decode_tokens_per_second / workload.batch;
    result.decode_share = steps_per_second * cost.decode_step_bytes(workload.batch, context) /
                          limits.read_bytes_per_second;
  }
}

backend::KvCacheLayout kv_layout(const BenchOptions& options, const engine::LoadedModel& model) {
  return model.model().kv_layout(/*blocks=*/0, /*block_tokens=*/16, model.kv_dtype(options.kv_dtype));
}

Json to_json(const BenchResult& result) {
  Json body = {{"batch", result.workload.batch},
               {"prompt_tokens", result.workload.prompt_tokens},
               {"generated_tokens", result.workload.generated_tokens},
               {"depth_tokens", result.workload.depth_tokens},
               {"prefill_tokens_per_second", result.throughput.prefill_tokens_per_second},
               {"decode_tokens_per_second", result.throughput.decode_tokens_per_second}};
  if (result.prefill_share > 0) body["prefill_share_of_flops"] = result.prefill_share;
  if (result.decode_share > 0) body["decode_share_of_bandwidth"] = result.decode_share;
  return body;
}

Json to_json(const BenchOptions& options, const engine::LoadedModel& model,
             const BenchReport& report) {
  const backend::DeviceInfo& device = model.device().info();
  Json body = {{"model", options.model},
               {"device", device.name},
               {"device_description", device.description},
               {"threads", device.threads},
               {"precision", model.model().mixed_precision() ? "mixed" : "full"},
               {"kv_dtype", name(model.kv_dtype(options.kv_dtype))},
               {"kv_bytes_per_token", kv_layout(options, model).bytes_per_token()},
               {"load_ms", model.load_ms()},
               {"peak_memory_bytes", report.peak_memory_bytes},
               {"read_bytes_per_second", report.limits.read_bytes_per_second},
               {"flops_per_second", report.limits.flops_per_second},
               {"repetitions", options.workload.repetitions},
               {"results", Json::array()}};
  for (const BenchResult& result : report.results) body["results"].push_back(to_json(result));
  return body;
}

std::string percent(double share) { return share > 0 ? fmt::format("{:.0f} %", 100 * share) : "-"; }

std::string speed(double tokens_per_second) {
  return tokens_per_second > 0 ? fmt::format("{:.1f}", tokens_per_second) : "-";
}

void print_table(const Context& context, const BenchOptions& options,
                 const engine::LoadedModel& model, const BenchReport& report) {
  const backend::DeviceInfo& device = model.device().info();
  context.print(fmt::format("{} on {} ({}), {} {}, {} precision", printable(options.model),
                            device.name, device.description, device.threads,
                            device.threads == 1 ? "thread" : "threads",
                            model.model().mixed_precision() ? "mixed" : "full"));
  context.print(fmt::format("loaded in {:.0f} ms; {} of memory at most", model.load_ms(),
                            format_bytes(report.peak_memory_bytes)));
  const uint64_t kv_bytes = kv_layout(options, model).bytes_per_token();
  context.print(fmt::format("KV cache in {}, {:.1f} kB a token", name(model.kv_dtype(options.kv_dtype)),
                            static_cast<double>(kv_bytes) / 1e3));
  const backend::DeviceLimits& limits = report.limits;
  if (limits.read_bytes_per_second > 0) {
    context.print(fmt::format("this machine reads {:.1f} GB/s and computes {:.0f} GFLOP/s",
                              limits.read_bytes_per_second / 1e9, limits.flops_per_second / 1e9));
  }
  Table table(
      {{"batch", Alignment::right},
       {"depth", Alignment::right},
       {fmt::format("prefill {} tok/s", options.workload.prompt_tokens), Alignment::right},
       {"of peak", Alignment::right},
       {fmt::format("decode {} tok/s", options.workload.generated_tokens), Alignment::right},
       {"of bandwidth", Alignment::right}});
  for (const BenchResult& result : report.results) {
    table.add_row({fmt::format("{}", result.workload.batch),
                   fmt::format("{}", result.workload.depth_tokens),
                   speed(result.throughput.prefill_tokens_per_second),
                   percent(result.prefill_share), speed(result.throughput.decode_tokens_per_second),
                   percent(result.decode_share)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void bench(Context& context, BenchOptions& options) {
  if (!options.serve.url.empty()) {
    options.serve.model = options.model;
    return bench_serve(context, options.serve);
  }
  if (options.machine) return bench_machine(context, options.device);
  if (options.model.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "name a MODEL to measure, or give --machine or --serve URL");
  }
  read_tokens(options.serve.prompt_tokens, "--prompt-tokens", options.workload.prompt_tokens);
  read_tokens(options.serve.output_tokens, "--generate-tokens", options.workload.generated_tokens);
  check_tokens(options);
  const auto model = load_model(context, options.model, options.device);
  BenchReport report;
  for (int batch : options.batches) {
    context.note(fmt::format("measuring batch {}", batch));
    for (const BenchResult& result : measure(*model, batch, options)) report.results.push_back(result);
  }
  // Before the machine is measured, which takes memory of its own.
  report.peak_memory_bytes = peak_memory_bytes();
  report.limits = model->device().measure_limits();
  const engine::ModelCost cost =
      engine::cost_of(model->file(), kv_layout(options, *model), model->model().config().heads);
  for (BenchResult& result : report.results) compute_shares(result, cost, report.limits);
  if (context.json) return context.print(to_json(options, *model, report).dump());
  print_table(context, options, *model, report);
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("bench", "Measure how fast a model runs here");
  command->group(measure_group);
  command->footer(
      "Speeds are totals over the sequences of a batch, the median of the repetitions. Shares are "
      "of what\n"
      "this machine measures of itself: its read bandwidth for decoding (the weights and the KV "
      "cache that\n"
      "a step must read), its arithmetic peak for prompts. A model that fits the processor's "
      "caches can decode\n"
      "faster than memory reads, and its share is more than 100 %.");
  auto options = std::make_shared<BenchOptions>();
  engine::Workload& workload = options->workload;
  CLI::Option* model = command->add_option(
      "MODEL", options->model,
      "A catalog name, hf:... or a path to a GGUF file or model folder; with --serve, the server's name for it");
  CLI::Option* serve =
      command
          ->add_option(
              "--serve", options->serve.url,
              "Load the OpenAI-compatible server at this URL instead, and measure what its "
              "users see")
          ->type_name("URL");
  command
      ->add_flag("--machine", options->machine,
                 "Measure the machine's own limits instead: reads of each cache and of memory, and "
                 "what each instruction multiplies")
      ->excludes(model)
      ->excludes(serve);
  command->add_option("-p,--prompt-tokens", options->serve.prompt_tokens,
                      fmt::format("Prompt tokens of each sequence ({}); with --serve also 100-400, "
                                  "or lognormal:MEDIAN:DEVIATION[:MOST]",
                                  workload.prompt_tokens));
  command->add_option("-n,--generate-tokens,--output-tokens", options->serve.output_tokens,
                      fmt::format("Tokens that each generates ({}); with --serve likewise",
                                  workload.generated_tokens));
  command->add_option("-b,--batch", options->batches, "Sequences at once; several values: 1,4,16")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str()
      ->excludes(serve);
  command
      ->add_option("-d,--depth", options->depths,
                   "Tokens of context before the prompt; several values: 0,8192, whose caches are in memory "
                   "together, and which take turns with each token they generate")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str()
      ->excludes(serve);
  command->add_option("--repetitions", workload.repetitions, "Rounds of each measurement")
      ->check(CLI::Range(1, 100))
      ->capture_default_str()
      ->excludes(serve);
  command->add_option("--step-tokens", options->step_tokens, "Most prompt tokens in one step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->excludes(serve);
  add_bench_serve_options(*command, serve, options->serve);
  add_device_options(*command, options->device);
  add_kv_dtype_setting(*command, options->kv_dtype);
  command->callback([&context, options] { bench(context, *options); });
}

}  // namespace ridge::cli
