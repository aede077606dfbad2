#include <fmt/format.h>

#include <fstream>
#include <memory>
#include <optional>

#include "backend/own_memory.h"
#include "backend/registry.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/profile_report.h"
#include "engine/step_runner.h"
#include "format/model_folder.h"
#include "model/model.h"
#include "planner/outline.h"
#include "platform/model_reference.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

struct ProfileOptions {
  std::string model;
  std::string device = "ascend-twin:910B2";
  std::string weights;  // of an outline; "": f16
  std::string trace;
  int rows = 1;
  int depth_tokens = 1024;
  int prompt_tokens = 2048;
  std::optional<DType> kv_dtype;
};

struct ProfiledModel {
  std::string name;
  std::string weights;  // of an outline
  format::GgufFile file;
};

DType outline_dtype(const std::string& name) {
  const auto dtype = dtype_from_name(name.empty() ? "f16" : name);
  if (!dtype || *dtype == DType::i8 || *dtype == DType::i32) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--weights '{}' is no type of weights; F16, BF16, Q8_0, Q4_0 and Q4_K are "
                            "some",
                            name));
  }
  return *dtype;
}

// The file where there is one; else the outline of a model whose dimensions are known.
ProfiledModel open_profiled(Context& context, const ProfileOptions& options) {
  const auto reference = platform::ModelReference::parse(options.model);
  const auto models = planner::ModelTable::built_in();
  const planner::ModelShape* shape = models.find(options.model);
  const auto from_file = [&] {
    const auto resolved = platform::resolve(reference, context.catalog(), context.store());
    return ProfiledModel{options.model, "", format::open_model(resolved.path)};
  };
  if (options.weights.empty()) {
    try {
      return from_file();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_found || shape == nullptr) throw;
    }
  } else if (shape == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--weights goes with a model by name, such as deepseek-r1:7b, whose "
                            "weights are made up; '{}' has its own",
                            options.model));
  }
  const DType dtype = outline_dtype(options.weights);
  context.note(fmt::format("{} by its dimensions alone, weights in {}", options.model, name(dtype)));
  return {options.model, std::string(name(dtype)), planner::outline_model(*shape, dtype)};
}

ProfiledStep profile_one(backend::Device& device, backend::StepCounter& counter,
                         const model::Model& model, DType kv_dtype, std::string phase,
                         const engine::StepForm& form) {
  const int most = model.config().context_tokens;
  if (form.context_tokens() > most) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} tokens are more than the model was made for, which is {}: --depth {} "
                            "and {} in the step",
                            form.context_tokens(), most, form.depth_tokens, form.tokens));
  }
  const auto runner =
      engine::create_step_runner(device, model, engine::step_limits(form, kv_dtype));
  counter.take_profile();  // what came before the step
  engine::run_step(*runner, form);
  return make_profiled_step(std::move(phase), form, counter.take_profile());
}

void write_trace(const std::string& file, const std::string& trace) {
  std::ofstream stream(file, std::ios::binary);
  stream << trace;
  stream.flush();
  if (!stream) throw Error(ErrorCode::io, fmt::format("cannot write the timeline {}", file));
}

void profile(Context& context, const ProfileOptions& options) {
  if (options.rows == 0 && options.prompt_tokens == 0) {
    throw Error(ErrorCode::invalid_argument,
                "--rows 0 and --prompt-tokens 0 leave no step to profile");
  }
  const auto device = backend::open_counting_device(options.device);
  auto& counter = dynamic_cast<backend::StepCounter&>(*device);
  const ProfiledModel profiled = open_profiled(context, options);
  const auto& memory = dynamic_cast<const backend::OwnMemory&>(*device);
  const uint64_t free_bytes = memory.free_memory_bytes();
  const auto model = model::Model::load(profiled.file, *device);
  ProfileReport report{.model = profiled.name,
                       .device = device->info().name,
                       .weights = profiled.weights,
                       .weight_bytes = free_bytes - memory.free_memory_bytes(),
                       .memory_bytes = device->info().memory_bytes};
  if (const auto& experts = model->config().experts) {
    report.experts = experts->router.experts;
    report.experts_of_token = experts->router.top_k;
  }
  const auto add = [&](const char* phase, const engine::StepForm& form) {
    report.steps.push_back(profile_one(*device, counter, *model, options.kv_dtype.value_or(DType::f16), phase, form));
  };
  if (options.rows > 0) add("decode", {options.rows, 1, options.depth_tokens});
  if (options.prompt_tokens > 0) add("prefill", {1, options.prompt_tokens, 0});
  if (!options.trace.empty()) write_trace(options.trace, profile_trace(report));
  if (context.json) return context.print(profile_json(report).dump());
  print_profile(context, report);
}

}  // namespace

void add_profile_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("profile", "What each kernel of a step costs on an Ascend chip");
  command->group(measure_group);
  command->footer(
      "Counts instructions on a model of the chip, without their arithmetic: a model of any size takes\n"
      "seconds, on any machine. docs/ascend.md says how far the times are from measured ones.\n"
      "Example: ridge profile deepseek-r1:7b --rows 8 --depth 4096 --trace timeline.json");
  auto options = std::make_shared<ProfileOptions>();
  command
      ->add_option("MODEL", options->model,
                   "A catalog name, hf:... or a path to a GGUF file or model folder; of models that "
                   "'ridge plan' knows by name the dimensions are enough")
      ->required();
  command
      ->add_option("--device", options->device,
                   "The chip: ascend-twin:910B1, 910B2, 910B3, 910B4 or 910C")
      ->capture_default_str();
  command->add_option("-b,--rows", options->rows,
                      "Sequences that a step of decoding has; 0 leaves it out")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("-d,--depth", options->depth_tokens, "Tokens of context before each of them")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("-p,--prompt-tokens", options->prompt_tokens,
                      "Tokens of a prompt in one step; 0 leaves it out")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command
      ->add_option("--weights", options->weights,
                   "Type of weights for a model by name: F16, Q8_0, Q4_0, Q4_K, ... (its file's, or "
                   "F16 where it is not pulled)")
      ->type_name("TYPE");
  command
      ->add_option("--trace", options->trace,
                   "Also write the timeline of the pipes, for chrome://tracing or ui.perfetto.dev")
      ->type_name("FILE");
  add_kv_dtype_setting(*command, options->kv_dtype);
  command->callback([&context, options] { profile(context, *options); });
}

}  // namespace ridge::cli
