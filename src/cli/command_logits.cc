#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/lora_option.h"
#include "engine/offline.h"
#include "sampling/logits.h"

namespace ridge::cli {
namespace {

struct LogitsOptions {
  std::string model;
  std::string tokens;
  std::string tokens_file;
  int top = 64;
  std::optional<DType> kv_dtype;
  DeviceChoice device;
  std::string lora;
};

// Ids separated by commas or white space; the brackets of a JSON list are allowed.
std::vector<int32_t> parse_tokens(std::string_view text, int vocab_size) {
  std::vector<int32_t> tokens;
  size_t at = 0;
  while ((at = text.find_first_not_of(" \t\r\n,[]", at)) != std::string_view::npos) {
    const size_t end = std::min(text.find_first_of(" \t\r\n,[]", at), text.size());
    const std::string_view word = text.substr(at, end - at);
    int32_t token = -1;
    const auto [rest, failure] = std::from_chars(word.data(), word.data() + word.size(), token);
    if (failure != std::errc() || rest != word.data() + word.size() || token < 0 ||
        token >= vocab_size) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' is no token id; ids of this model are 0 to {}",
                              word.substr(0, 40), vocab_size - 1));
    }
    tokens.push_back(token);
    at = end;
  }
  if (tokens.empty()) throw Error(ErrorCode::invalid_argument, "no token ids were given");
  return tokens;
}

std::string read_tokens(const LogitsOptions& options) {
  if (options.tokens_file.empty()) return options.tokens;
  if (options.tokens_file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(options.tokens_file);
  if (!file) {
    throw Error(ErrorCode::not_found,
                fmt::format("cannot read the tokens in {}", options.tokens_file));
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

// `{}` writes the shortest digits that read back as the same float32.
std::string line_of(int position, std::span<const float> logits, int top) {
  const double normalizer = sampling::log_sum_exp(logits);
  fmt::memory_buffer ids;
  fmt::memory_buffer logprobs;
  const char* separator = "";
  for (const sampling::ScoredToken& token : sampling::top_tokens(logits, top)) {
    fmt::format_to(std::back_inserter(ids), "{}{}", separator, token.id);
    fmt::format_to(std::back_inserter(logprobs), "{}{}", separator,
                   static_cast<float>(token.score - normalizer));
    separator = ",";
  }
  return fmt::format(R"({{"position":{},"ids":[{}],"logprobs":[{}]}})", position,
                     fmt::to_string(ids), fmt::to_string(logprobs));
}

void print_logits(Context& context, const LogitsOptions& options) {
  std::vector<engine::AdapterSource> adapters;
  if (!options.lora.empty()) {
    const LoraChoice adapter = parse_lora(options.lora);
    adapters.push_back({adapter.path, adapter.scale});
  }
  const auto model = load_model(context, options.model, options.device, adapters);
  const int vocab_size = model->model().config().vocab_size;
  const std::vector<int32_t> tokens = parse_tokens(read_tokens(options), vocab_size);
  const int top = options.top == 0 ? vocab_size : options.top;
  const int count = model->context_tokens(static_cast<int>(tokens.size()));
  engine::RunnerLimits limits = engine::scoring_limits(count, vocab_size);
  limits.kv_dtype = model->kv_dtype(options.kv_dtype);
  const auto runner =
      engine::create_step_runner(model->device(), model->model(), limits, model->adapters());
  engine::score(
      *runner, tokens,
      [&](int position, std::span<const float> logits) {
        sampling::check_finite(logits);
        context.print(line_of(position, logits, top));
      },
      /*adapter=*/options.lora.empty() ? -1 : 0);
}

}  // namespace

void add_logits_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("logits", "Print the likeliest next tokens after each of given tokens");
  command->group(measure_group);
  command->footer(
      "One JSON line for each position: {\"position\":0,\"ids\":[...],\"logprobs\":[...]}, "
      "likeliest first.\n"
      "The logarithms are natural, of the softmax over the whole vocabulary, and read back exactly "
      "as\n"
      "float32. No token is added: give BOS where the model wants it (see 'ridge tokenize').");
  auto options = std::make_shared<LogitsOptions>();
  command
      ->add_option("MODEL", options->model,
                   "A catalog name, hf:... or a path to a GGUF file or model folder")
      ->required();
  // One of the two must be given; a group of options would show as an empty block in the help.
  auto* listed = command->add_option("--tokens", options->tokens, "Token ids, separated by commas")
                     ->type_name("IDS");
  command
      ->add_option("--tokens-file", options->tokens_file,
                   "A file of token ids, or - for standard input")
      ->type_name("FILE")
      ->excludes(listed);
  command->add_option("--top", options->top, "Tokens for each position; 0 for the whole vocabulary")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_device_options(*command, options->device);
  add_kv_dtype_setting(*command, options->kv_dtype);
  add_lora_option(*command, options->lora);
  command->callback([&context, options] {
    if (options->tokens.empty() && options->tokens_file.empty()) {
      throw CLI::RequiredError("--tokens or --tokens-file");
    }
    print_logits(context, *options);
  });
}

}  // namespace ridge::cli
