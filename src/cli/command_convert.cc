#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/cpu_count.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "format/model_folder.h"
#include "format/quantize_file.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ConvertCommand {
  std::string folder;
  std::string output;
  std::string type;  // empty: as the folder has it
  int threads = 0;
  bool force = false;
};

// "R1-Distill.gguf" in the current folder, of a model folder of that name.
std::filesystem::path default_output(const std::filesystem::path& folder) {
  const auto whole = std::filesystem::absolute(folder).lexically_normal();
  const auto name = (whole.has_filename() ? whole : whole.parent_path()).filename();
  return name.string() + ".gguf";
}

void convert(Context& context, const ConvertCommand& command) {
  if (!format::is_model_folder(command.folder)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is no folder with a config.json, as Hugging Face's libraries save "
                            "models; 'ridge quantize' reads GGUF files",
                            command.folder));
  }
  const std::filesystem::path output = command.output.empty()
                                           ? default_output(command.folder)
                                           : std::filesystem::path(command.output);
  const InterruptScope interrupt;
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  format::QuantizeOptions options;
  options.threads = command.threads > 0 ? command.threads : available_cpus();
  options.overwrite = command.force;
  options.progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update("writing " + printable(output.string()), done_bytes, total_bytes);
    return !InterruptScope::requested();
  };
  const auto start = std::chrono::steady_clock::now();
  format::QuantizeReport report;
  if (command.type.empty()) {
    report = format::copy_as_gguf(command.folder, output, options);
  } else {
    const format::QuantizationRecipe& recipe = format::quantization_recipe(command.type);
    // Values of quantised weights, in a type that has room for them.
    options.allow_requantize = !is_quantized(recipe.dtype);
    report = format::quantize_file(command.folder, output, recipe, options);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  progress.clear();
  Json types = Json::object();
  std::string mix;
  for (const auto& [dtype, count] : report.tensors_by_type) {
    types[std::string(name(dtype))] = count;
    mix += fmt::format("{}{} {}", mix.empty() ? "" : ", ", count, name(dtype));
  }
  if (context.json) {
    const Json body = {{"path", output.string()},           {"parameters", report.parameters},
                       {"input_bytes", report.input_bytes}, {"size_bytes", report.output_bytes},
                       {"tensors_by_type", types},          {"elapsed_s", elapsed.count()}};
    return context.print(body.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  context.note(fmt::format("{}: {} of {}, tensors: {}, in {:.1f} s", printable(output.string()),
                           format_bytes(static_cast<int64_t>(report.output_bytes)),
                           format_bytes(static_cast<int64_t>(report.input_bytes)), mix,
                           elapsed.count()));
}

}  // namespace

void add_convert_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("convert", "Write a model folder of Hugging Face's as a GGUF file");
  command->group(model_group);
  command->footer(
      "Example:\n"
      "  ridge convert DeepSeek-R1-Distill-Qwen-1.5B --out r1.gguf --type bf16\n"
      "\n"
      "The folder has config.json, safetensors and tokenizer.json. Without --type each matrix is "
      "written\n"
      "as it is stored, or in the closest type of GGUF's (docs/model-folders.md). Commands that "
      "take a\n"
      "model take the folder itself as well.");
  auto options = std::make_shared<ConvertCommand>();
  command->add_option("FOLDER", options->folder, "A model's folder")->required();
  command->add_option("-o,--out", options->output,
                      "The new GGUF file; by default the folder's name and .gguf, here");
  command->add_option("--type", options->type,
                      "F32, F16, BF16, Q8_0 or another of 'ridge quantize --help'; case does not "
                      "count");
  command
      ->add_option("-t,--threads", options->threads,
                   "Threads; 0 for as many as this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--force", options->force, "Replace the file where it exists");
  command->callback([&context, options] { convert(context, *options); });
}

}  // namespace ridge::cli
