#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/model_writing.h"
#include "cli/progress.h"
#include "format/quantize_file.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

struct QuantizeCommand {
  std::string model;
  std::string output;
  std::string type;
  std::string imatrix;
  int threads = 0;
  bool allow_requantize = false;
  bool force = false;
};

double bits_per_weight(const format::QuantizeReport& report) {
  return 8.0 * static_cast<double>(report.output_bytes) / static_cast<double>(report.parameters);
}

void quantize(Context& context, const QuantizeCommand& command) {
  const format::QuantizationRecipe& recipe = format::quantization_recipe(command.type);
  const platform::ResolvedModel model = platform::resolve(
      platform::ModelReference::parse(command.model), context.catalog(), context.store());
  std::optional<format::Importance> importance;
  if (!command.imatrix.empty()) {
    importance = {format::ImportanceMatrix::read(command.imatrix), command.imatrix};
  }
  const WrittenModel written =
      write_model(context, command.output, fmt::format("quantising to {}", recipe.name),
                  {.threads = command.threads,
                   .allow_requantize = command.allow_requantize,
                   .overwrite = command.force,
                   .importance = importance ? &*importance : nullptr,
                   .progress = {}},
                  [&](const format::QuantizeOptions& options) {
                    return format::quantize_file(model.path, command.output, recipe, options);
                  });
  const format::QuantizeReport& report = written.report;
  if (context.json) {
    nlohmann::ordered_json body = written.to_json();
    body["type"] = recipe.name;
    body["bits_per_weight"] = bits_per_weight(report);
    if (importance) body["unweighted"] = report.unweighted;
    return context.print(body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  if (!report.unweighted.empty()) {
    context.note(fmt::format(
        "{} of the matrices have no entry in {} and were quantised without weights ({})",
        report.unweighted.size(), printable(command.imatrix),
        printable(report.unweighted.front())));
  }
  context.note(fmt::format("{}: {}, {} instead of {}, {:.2f} bits a weight, in {:.1f} s",
                           printable(command.output), recipe.name,
                           format_bytes(static_cast<int64_t>(report.output_bytes)),
                           format_bytes(static_cast<int64_t>(report.input_bytes)),
                           bits_per_weight(report), written.elapsed_s));
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
      "  ridge quantize model-f16.gguf model-q4_k_m.gguf q4_k_m --imatrix imatrix.gguf\n"
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
      ->add_option("--imatrix", options->imatrix,
                   "An importance matrix, of 'ridge imatrix' or llama.cpp: columns that matter more "
                   "lose less")
      ->type_name("FILE");
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
