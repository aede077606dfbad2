#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/cpu_count.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "format/quantize_file.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct QuantizeCommand {
  std::string model;
  std::string output;
  std::string type;
  int threads = 0;
  bool allow_requantize = false;
  bool force = false;
};

double bits_per_weight(const format::QuantizeReport& report) {
  return 8.0 * static_cast<double>(report.output_bytes) / static_cast<double>(report.parameters);
}

Json to_json(const QuantizeCommand& command, const format::QuantizationRecipe& recipe,
             const format::QuantizeReport& report, double elapsed_s) {
  Json types = Json::object();
  for (const auto& [dtype, count] : report.tensors_by_type) types[std::string(name(dtype))] = count;
  Json replaced = Json::array();
  for (const format::ReplacedType& each : report.replaced) {
    replaced.push_back(
        {{"tensor", each.tensor}, {"asked", name(each.asked)}, {"used", name(each.used)}});
  }
  return {{"path", command.output},
          {"type", recipe.name},
          {"parameters", report.parameters},
          {"input_bytes", report.input_bytes},
          {"size_bytes", report.output_bytes},
          {"bits_per_weight", bits_per_weight(report)},
          {"tensors_by_type", types},
          {"replaced", replaced},
          {"elapsed_s", elapsed_s}};
}

void print_text(const Context& context, const QuantizeCommand& command,
                const format::QuantizationRecipe& recipe, const format::QuantizeReport& report,
                double elapsed_s) {
  if (!report.replaced.empty()) {
    const format::ReplacedType& first = report.replaced.front();
    context.note(fmt::format(
        "{} of the matrices have rows that are no whole blocks of their type and got another one "
        "({} is {} instead of {})",
        report.replaced.size(), printable(first.tensor), name(first.used), name(first.asked)));
  }
  context.note(fmt::format(
      "{}: {}, {} instead of {}, {:.2f} bits a weight, in {:.1f} s", printable(command.output),
      recipe.name, format_bytes(static_cast<int64_t>(report.output_bytes)),
      format_bytes(static_cast<int64_t>(report.input_bytes)), bits_per_weight(report), elapsed_s));
}

void quantize(Context& context, const QuantizeCommand& command) {
  const format::QuantizationRecipe& recipe = format::quantization_recipe(command.type);
  const platform::ResolvedModel model = platform::resolve(
      platform::ModelReference::parse(command.model), context.catalog(), context.store());
  const InterruptScope interrupt;
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  format::QuantizeOptions options;
  options.threads = command.threads > 0 ? command.threads : available_cpus();
  options.allow_requantize = command.allow_requantize;
  options.overwrite = command.force;
  options.progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update(fmt::format("quantising to {}", recipe.name), done_bytes, total_bytes);
    return !InterruptScope::requested();
  };
  const auto start = std::chrono::steady_clock::now();
  const format::QuantizeReport report =
      format::quantize_file(model.path, command.output, recipe, options);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  progress.clear();
  if (context.json) {
    const Json body = to_json(command, recipe, report, elapsed.count());
    return context.print(body.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  print_text(context, command, recipe, report, elapsed.count());
}

std::string known_types() {
  std::string text;
  for (const format::QuantizationRecipe& recipe : format::quantization_recipes()) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", recipe.name);
  }
  return text;
}

}  // namespace

void add_quantize_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("quantize", "Write a model with fewer bits a weight");
  command->group(model_group);
  command->footer(
      "Example:\n"
      "  ridge quantize model-f16.gguf model-q4_k_m.gguf q4_k_m\n"
      "\n"
      "Types: " +
      known_types() +
      ".\n"
      "The mixes (_M, _S) give the tensors that suffer most a finer type, as llama.cpp does. "
      "Metadata "
      "are\n"
      "kept; vectors stay F32. A split model is read from its first part and written as one file, "
      "which\n"
      "appears only when it is whole.");
  auto options = std::make_shared<QuantizeCommand>();
  command
      ->add_option("MODEL", options->model,
                   "A GGUF file of F32, F16 or BF16, or the name of such a model")
      ->required();
  command->add_option("OUT", options->output, "The new GGUF file")->required();
  command->add_option("TYPE", options->type, "Such as Q4_K_M; case does not count")->required();
  command
      ->add_option("-t,--threads", options->threads,
                   "Threads; 0 for as many as this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--allow-requantize", options->allow_requantize,
                    "Take a model that is quantised already, at a loss");
  command->add_flag("--force", options->force, "Replace OUT where it exists");
  command->callback([&context, options] { quantize(context, *options); });
}

}  // namespace ridge::cli
