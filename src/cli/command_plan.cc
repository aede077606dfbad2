#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <memory>

#include "backend/registry.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/plan_report.h"
#include "platform/model_reference.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

using planner::Device;
using planner::ModelShape;

// This machine as a device: what it measures of itself, or what was given.
Device plan_cpu(Context& context, const PlanOptions& options) {
  constexpr double giga = 1e9, tera = 1e12;
  Device cpu{.name = "cpu", .title = "this machine"};
  const std::string given = "given on the command line";
  cpu.memory_gbps = {options.cpu_gbps, given};
  cpu.f16_tflops = {options.cpu_tflops, given};
  cpu.i8_tops = {options.cpu_tops, given};
  cpu.memory_gb = {options.cpu_memory_gb, given};
  const bool is_known = options.cpu_gbps > 0 && options.cpu_tflops > 0 && options.cpu_memory_gb > 0;
  if (is_known) return cpu;
  const auto device = backend::open_device("cpu", {});
  const std::string measured = "measured here, as ridge bench --machine does";
  cpu.title = device->info().description;
  if (options.cpu_memory_gb == 0) {
    cpu.memory_gb = {static_cast<double>(device->info().memory_bytes) / giga, "the system"};
  }
  if (options.cpu_gbps > 0 && options.cpu_tflops > 0) return cpu;
  context.note("measuring this machine ...");
  const backend::MachineLimits limits = device->measure_machine();
  double read = 0, floats = 0, integers = 0;
  for (const backend::ReadLimit& each : limits.reads) {
    if (each.level == "memory") read = std::max(read, each.bytes_per_second);
  }
  for (const backend::MultiplyLimit& each : limits.multiplies) {
    double& peak = each.operands == "i8" ? integers : floats;
    peak = std::max(peak, each.flops_per_second);
  }
  if (read == 0 || floats == 0) {
    throw Error(ErrorCode::unsupported,
                "this machine could not be measured; give --cpu-gbps, --cpu-tflops and "
                "--cpu-memory-gb");
  }
  if (options.cpu_gbps == 0) cpu.memory_gbps = {read / giga, measured};
  if (options.cpu_tflops == 0) cpu.f16_tflops = {floats / tera, measured};
  if (options.cpu_tops == 0) cpu.i8_tops = {integers / tera, measured};
  return cpu;
}

struct PlanModel {
  ModelShape shape;
  planner::WeightFormat weights;
};

// A name of data/plan-models.toml or of the catalog, with its quantisation; a config.json; a GGUF
// file, by path or of the store.
PlanModel find_plan_model(Context& context, const PlanOptions& options) {
  const auto with_format = [&](ModelShape shape, const std::string& own) {
    if (shape.file_bits > 0 && options.weights.empty()) {
      return PlanModel{shape, planner::file_weight_format(shape.file_bits)};
    }
    const std::string name = !options.weights.empty() ? options.weights
                             : !own.empty()           ? own
                                                      : "bf16";
    return PlanModel{shape, planner::find_weight_format(name)};
  };
  const std::string& text = options.model;
  if (text.ends_with(".json")) return with_format(planner::read_config_shape(text), "");
  const planner::ModelTable models = planner::ModelTable::built_in();
  if (const ModelShape* shape = models.find(text)) return with_format(*shape, shape->weights);
  const auto reference = platform::ModelReference::parse(text);
  if (reference.kind == platform::ReferenceKind::catalog) {
    if (const auto choice = context.catalog().find(reference.name)) {
      if (const ModelShape* shape = models.find(choice->model->name)) {
        // A model's own name is of what was published, under whichever name that is found.
        const bool has_quantization = reference.name.starts_with(choice->model->name + "-");
        return with_format(*shape, has_quantization ? choice->quantization->name : shape->weights);
      }
    }
    std::string known;
    for (const ModelShape& shape : models.models()) {
      known += (known.empty() ? "" : ", ") + shape.name;
    }
    throw Error(ErrorCode::not_found,
                fmt::format("the dimensions of '{}' are not known; there are {}; or name a GGUF "
                            "file or a config.json",
                            text, known));
  }
  const auto resolved = platform::resolve(reference, context.catalog(), context.store());
  return with_format(planner::read_gguf_shape(resolved.path), "");
}

std::map<std::string, double> read_plan_prices(const std::vector<std::string>& texts,
                                               const planner::DeviceTable& devices) {
  std::map<std::string, double> prices;
  for (const std::string& text : texts) {
    const size_t at = text.find('=');
    double price = 0;
    std::string number = at == text.npos ? "" : text.substr(at + 1);
    if (number.ends_with("/h")) number.resize(number.size() - 2);
    const auto [end, failure] =
        std::from_chars(number.data(), number.data() + number.size(), price);
    if (number.empty() || failure != std::errc() || end != number.data() + number.size() ||
        !(price > 0 && price < 1e9)) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("--price '{}' is no DEVICE=NUMBER above 0, as in 910C=2.5 (an hour)", text));
    }
    const std::string name = text.substr(0, at);
    prices[name == "cpu" ? name : devices.get(name).name] = price;
  }
  return prices;
}

planner::Question plan_question(const PlanOptions& options, const PlanModel& model) {
  planner::Question question;
  question.formats = {model.weights, planner::find_kv_format(options.cache)};
  question.prompt_tokens = options.prompt_tokens;
  question.output_tokens = options.output_tokens;
  question.cached_share = options.cached_share;
  question.devices = options.count;
  question.batch = options.batch;
  question.tpot_ms = options.tpot_ms;
  question.tensor_parallel = options.tensor_parallel;
  if (options.drafts > 0 && model.shape.draft_layers == 0) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{} has no modules of multi-token prediction for --drafts", model.shape.name));
  }
  if (options.accepted > options.drafts + 1) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--accepted {:g} is more than the {} tokens that a step checks",
                            options.accepted, options.drafts + 1));
  }
  // Each draft stands with 70 % where nothing was said, if those before it do.
  constexpr double standing = 0.7;
  double expected = 1, share = 1;
  for (int i = 0; i < options.drafts; ++i) expected += share *= standing;
  question.speculation = {options.drafts, options.accepted > 0 ? options.accepted : expected};
  return question;
}

// Devices of one family share their software: all 910B, and a 910C and its die.
std::string plan_family(std::string_view device) {
  if (device.starts_with("910B")) return "910B";
  if (device.starts_with("910C")) return "910C";
  return std::string(device);
}

std::vector<PlanEstimate> plan_estimates(const planner::Validation& validation,
                                         const Device& device, const std::string& stack) {
  std::vector<PlanEstimate> estimates;
  for (const auto& [each, efficiency] : validation.efficiencies) {
    if (efficiency == 0) continue;
    const bool has_rows = std::any_of(
        validation.rows.begin(), validation.rows.end(), [&, &name = each.name](const auto& row) {
          return row.is_compared() && row.row->stack == name &&
                 plan_family(row.row->device) == plan_family(device.name);
        });
    if (stack.empty() ? has_rows : stack == each.name) {
      estimates.push_back({each.name, efficiency});
    }
  }
  return estimates;
}

PlanReport make_plan_report(Context& context, const PlanOptions& options,
                            const planner::DeviceTable& devices,
                            const planner::Validation& validation) {
  const PlanModel model = find_plan_model(context, options);
  PlanReport report{.shape = model.shape, .question = plan_question(options, model)};
  report.question.shape = &report.shape;
  const auto prices = read_plan_prices(options.prices, devices);
  for (const std::string& name : options.devices) {
    PlanEntry entry{.device = name == "cpu" ? plan_cpu(context, options) : devices.get(name)};
    entry.plan = planner::make_plan(report.question, entry.device, entry.why_not);
    entry.estimates = plan_estimates(validation, entry.device, options.stack);
    if (const auto price = prices.find(entry.device.name); price != prices.end()) {
      entry.price_per_hour = price->second;
    }
    report.entries.push_back(std::move(entry));
  }
  report.question.shape = nullptr;  // the report moves
  return report;
}

void write_plan_picture(const std::string& file, const std::string& svg) {
  std::ofstream stream(file, std::ios::binary);
  stream << svg;
  stream.flush();
  if (!stream) throw Error(ErrorCode::io, fmt::format("cannot write the picture {}", file));
}

void plan_ratio(Context& context, const PlanOptions& options, const planner::DeviceTable& devices) {
  const size_t at = options.ratio.find('/');
  if (at == options.ratio.npos) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--ratio '{}' is no A/B, as in 910C/H100", options.ratio));
  }
  const Device& first = devices.get(options.ratio.substr(0, at));
  const Device& second = devices.get(options.ratio.substr(at + 1));
  const PlanModel model = find_plan_model(context, options);
  constexpr int usual_devices = 32;
  const int count = options.count > 0 ? options.count : usual_devices;
  const auto rows = planner::ratios(model.shape, first, second, count, options.prompt_tokens);
  if (context.json) return context.print(ratios_json(rows).dump());
  const std::string title =
      fmt::format("{}: {} beside {}, {} of each, by their bounds", model.shape.name, first.name,
                  second.name, model.shape.experts ? count : 1);
  print_ratios(context, title, options.claim, rows);
}

void plan(Context& context, const PlanOptions& options) {
  planner::DeviceTable devices = planner::DeviceTable::built_in();
  if (!options.devices_file.empty()) devices.add_file(options.devices_file);
  if (options.list_devices) {
    if (!context.json) return print_devices(context, devices);
    nlohmann::ordered_json body = nlohmann::ordered_json::array();
    for (const Device& device : devices.devices()) body.push_back(device_json(device));
    return context.print(body.dump());
  }
  const auto published = planner::PublishedTable::built_in();
  if (!options.stack.empty()) published.stack(options.stack);  // throws for one that is not known
  // Estimates come from the devices that were validated, not from an operator's figures for them.
  const auto validated = [&] {
    return planner::validate(published, planner::DeviceTable::built_in(),
                             planner::ModelTable::built_in());
  };
  if (options.validate) {
    const planner::Validation validation = validated();
    if (context.json) return context.print(validation_json(validation).dump());
    return print_validation(context, validation);
  }
  if (options.model.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "name a MODEL to plan for, or give --validate or --list-devices");
  }
  if (!options.ratio.empty()) return plan_ratio(context, options, devices);
  const PlanReport report = make_plan_report(context, options, devices, validated());
  if (!options.svg.empty()) write_plan_picture(options.svg, plan_svg(report));
  if (context.json) return context.print(plan_json(report).dump());
  print_plan(context, report);
}

void add_plan_workload(CLI::App& command, PlanOptions& options) {
  constexpr int most_tokens = 1 << 24;
  command.add_option("-c,--context", options.prompt_tokens, "Tokens of each prompt")
      ->check(CLI::Range(1, most_tokens))
      ->capture_default_str();
  command.add_option("-o,--output-tokens", options.output_tokens, "Tokens of each answer")
      ->check(CLI::Range(1, most_tokens))
      ->capture_default_str();
  command
      .add_option("--cached-share", options.cached_share,
                  "Of each prompt, what a prefix cache holds, 0 to 0.99")
      ->check(CLI::Range(0.0, 0.99));
  command
      .add_option("-b,--batch", options.batch,
                  "Sequences at once on all devices together (as many as fit)")
      ->check(CLI::Range(1, 1 << 20));
  command
      .add_option("--tpot-ms", options.tpot_ms,
                  "Longest time of a token; the largest batch that keeps it is taken")
      ->check(CLI::Range(0.001, 1e6));
  command.add_option("--drafts", options.drafts, "Tokens that multi-token prediction guesses")
      ->check(CLI::Range(0, 16));
  command
      .add_option("--accepted", options.accepted,
                  "Tokens that a step yields with --drafts (70 % of each draft stand)")
      ->check(CLI::Range(1.0, 17.0));
}

void add_plan_machines(CLI::App& command, PlanOptions& options) {
  command
      .add_option("--devices", options.devices,
                  "Devices to compare, of --list-devices; cpu is this machine")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command.add_option("--devices-file", options.devices_file, "A TOML file of further devices")
      ->type_name("FILE");
  command
      .add_option("-n,--count", options.count, "Devices to lay the model on (the fewest that do)")
      ->check(CLI::Range(1, 4096));
  command
      .add_option("--tensor-parallel", options.tensor_parallel,
                  "Ranks that share each layer (what gives most)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--price", options.prices, "What a device costs an hour: 910C=2.5")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("DEVICE=NUMBER");
  command.add_option("--cpu-gbps", options.cpu_gbps, "Of cpu, instead of measuring it")
      ->check(CLI::Range(1e-3, 1e6));
  command.add_option("--cpu-tflops", options.cpu_tflops, "Likewise, of 16-bit floats")
      ->check(CLI::Range(1e-6, 1e6));
  command.add_option("--cpu-tops", options.cpu_tops, "Likewise, of 8-bit integers")
      ->check(CLI::Range(1e-6, 1e6));
  command.add_option("--cpu-memory-gb", options.cpu_memory_gb, "Likewise, its memory")
      ->check(CLI::Range(1e-3, 1e6));
}

}  // namespace

void add_plan_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("plan", "What a model would give on each device");
  command->group(measure_group);
  command->footer(
      "Speeds are of one device, by a bound that the hardware cannot exceed; estimates are what a "
      "software\n"
      "stack made of such bounds where its results were published. docs/plan.md has the formulae, "
      "the sources\n"
      "and how far estimates were from what others measured (--validate).\n"
      "Example: ridge plan deepseek-r1:671b --devices 910C,H100,H20 --tpot-ms 50 --drafts 1");
  auto options = std::make_shared<PlanOptions>();
  command->add_option("MODEL", options->model,
                      "A name (deepseek-r1:671b, qwen3:32b), a GGUF file or a config.json");
  add_plan_machines(*command, *options);
  add_plan_workload(*command, *options);
  std::string formats;
  for (const auto& format : planner::weight_formats()) {
    formats += (formats.empty() ? "" : ", ") + format.name;
  }
  command->add_option("--quant", options->weights,
                      "Format of the weights (as published): " + formats);
  command->add_option("--kv-dtype", options->cache, "Of the KV cache: bf16, f16, fp8, int8")
      ->capture_default_str();
  command->add_option("--stack", options->stack,
                      "Estimate with this software stack's efficiency (those of the device)");
  command->add_option("--svg", options->svg, "Draw the rooflines")->type_name("FILE");
  command->add_option("--ratio", options->ratio,
                      "Compare two devices over batches and formats instead: 910C/H100");
  command->add_option("--claim", options->claim, "A ratio to look for in --ratio: 0.6")
      ->check(CLI::Range(0.001, 1000.0));
  command->add_flag("--validate", options->validate,
                    "Hold bound and estimates against published results instead");
  command->add_flag("--list-devices", options->list_devices,
                    "List the devices that are known instead");
  command->callback([&context, options] { plan(context, *options); });
}

}  // namespace ridge::cli
