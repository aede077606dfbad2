#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/read_text.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "engine/importance.h"

namespace ridge::cli {
namespace {

constexpr int default_chunk_tokens = 512;

struct ImatrixCommand {
  std::string model;
  std::string text;
  std::string output;
  std::optional<int> chunk_tokens;
  int chunks = 0;
  bool force = false;
  DeviceChoice device;
};

// Experts that the text never reached, over all tensors of experts.
std::pair<size_t, size_t> unseen_experts(const format::ImportanceMatrix& matrix) {
  size_t unseen = 0;
  size_t all = 0;
  for (const auto& [name, entry] : matrix.entries) {
    if (entry.counts.size() == 1) continue;
    all += entry.counts.size();
    unseen += static_cast<size_t>(std::ranges::count(entry.counts, 0.0f));
  }
  return {unseen, all};
}

void gather(Context& context, const ImatrixCommand& command) {
  // Before minutes of work, not after.
  if (!command.force && std::filesystem::exists(command.output)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} exists; --force replaces it", command.output));
  }
  const std::string text = read_text(command.text, "the text ");
  const auto model = load_model(context, command.model, command.device);
  const int chunk_tokens = command.chunk_tokens.value_or(
      std::min(default_chunk_tokens, model->model().config().context_tokens));
  std::vector<int32_t> tokens = model->tokenizer()->encode(text, {.add_special = true});
  if (command.chunks > 0) {
    const auto most = static_cast<size_t>(command.chunks) * static_cast<size_t>(chunk_tokens);
    tokens.resize(std::min(tokens.size(), most));
  }
  const InterruptScope interrupt;
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  format::ImportanceMatrix matrix = engine::gather_importance(
      *model, tokens,
      {.chunk_tokens = chunk_tokens,
       .progress =
           [&](int64_t done, int64_t total) {  // of tokens; shown as bytes of the text
             const auto bytes = static_cast<int64_t>(text.size());
             progress.update("reading " + printable(command.text), bytes * done / total, bytes);
             return !InterruptScope::requested();
           }});
  progress.clear();
  matrix.datasets = {command.text};
  matrix.write(command.output);
  const auto [unseen, experts] = unseen_experts(matrix);
  if (context.json) {
    const nlohmann::ordered_json body = {{"path", command.output},
                                         {"tokens", tokens.size()},
                                         {"chunks", matrix.chunks},
                                         {"chunk_tokens", matrix.chunk_tokens},
                                         {"entries", matrix.entries.size()},
                                         {"experts_unseen", unseen},
                                         {"experts", experts}};
    return context.print(body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  if (unseen > 0) {
    context.note(fmt::format(
        "{} of {} matrices of experts saw no token; they will be quantised without weights. A longer "
        "text reaches more",
        unseen, experts));
  }
  context.note(fmt::format("{}: {} tensors, from {} tokens in {} {}", printable(command.output),
                           matrix.entries.size(), tokens.size(), matrix.chunks,
                           matrix.chunks == 1 ? "chunk" : "chunks"));
}

}  // namespace

void add_imatrix_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("imatrix", "Gather which columns of a model's weights a text needs most");
  command->group(model_group);
  command->footer(
      "Example:\n"
      "  ridge imatrix model-f16.gguf --text sample.txt -o imatrix.gguf\n"
      "  ridge quantize model-f16.gguf model-q4_k_m.gguf q4_k_m --imatrix imatrix.gguf\n"
      "\n"
      "The text runs through the model in chunks; OUT holds, for each matrix of its layers, the "
      "sums of\n"
      "squares of what its columns meet. It is llama.cpp's importance matrix in GGUF: each program "
      "reads\n"
      "the other's.");
  auto options = std::make_shared<ImatrixCommand>();
  command
      ->add_option("MODEL", options->model,
                   "A catalog name, hf:... or a path to a GGUF file or model folder")
      ->required();
  command->add_option("--text", options->text, "A text of the kind that the model is for")
      ->type_name("FILE")
      ->required();
  command->add_option("-o,--output", options->output, "The new GGUF file")
      ->type_name("OUT")
      ->required();
  command
      ->add_option(
          "--chunk-tokens", options->chunk_tokens,
          "Tokens that are read together; each chunk begins anew. By default 512, or the model's "
          "context where that is less")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--chunks", options->chunks, "Chunks to read at most; 0: the whole text")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--force", options->force, "Replace OUT where it exists");
  add_device_options(*command, options->device);
  command->callback([&context, options] { gather(context, *options); });
}

}  // namespace ridge::cli
