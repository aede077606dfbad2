#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/model_path.h"
#include "cli/commands.h"
#include "cli/model_writing.h"
#include "cli/progress.h"
#include "format/quantize_file.h"

namespace ridge::cli {
namespace {

struct ConvertCommand {
  std::string folder;
  std::string output;
  std::string type;  // empty: as the folder has it
  int threads = 0;
  bool force = false;
};

void convert(Context& context, const ConvertCommand& command) {
  if (!is_model_folder(command.folder)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is no folder with a config.json, as Hugging Face's libraries save "
                            "models; 'ridge quantize' reads GGUF files",
                            command.folder));
  }
  const std::string output =
      command.output.empty() ? folder_name(command.folder) + ".gguf" : command.output;
  const auto write = [&](const format::QuantizeOptions& options) {
    if (command.type.empty()) return format::copy_as_gguf(command.folder, output, options);
    return format::quantize_file(command.folder, output, format::quantization_recipe(command.type),
                                 options);
  };
  format::QuantizeOptions options{.threads = command.threads, .overwrite = command.force};
  if (!command.type.empty()) {
    // Values of quantised weights, in a type that has room for them.
    options.allow_requantize = !is_quantized(format::quantization_recipe(command.type).dtype);
  }
  const WrittenModel written =
      write_model(context, output, "writing " + printable(output), options, write);
  if (context.json) {
    return context.print(
        written.to_json().dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  const format::QuantizeReport& report = written.report;
  std::string mix;
  for (const auto& [dtype, count] : report.tensors_by_type) {
    mix += fmt::format("{}{} {}", mix.empty() ? "" : ", ", count, name(dtype));
  }
  context.note(fmt::format("{}: {} of {}, tensors: {}, in {:.1f} s", printable(output),
                           format_bytes(static_cast<int64_t>(report.output_bytes)),
                           format_bytes(static_cast<int64_t>(report.input_bytes)), mix,
                           written.elapsed_s));
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
