#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "api/served_model.h"
#include "base/error.h"
#include "cli/answer_printer.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/device_options.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/lora_option.h"
#include "cli/prepared_weights.h"
#include "cli/progress.h"
#include "cli/pull_progress.h"
#include "engine/engine.h"
#include "platform/resolve.h"
#include "text/tokenizer.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t max_input_bytes = std::size_t{8} << 20;

struct RunOptions {
  std::string model;
  std::vector<std::string> words;
  std::string system;
  double temperature = -1;  // below 0: the model's own
  double top_p = -1;
  int max_tokens = 0;  // 0: the rest of the context
  int64_t seed = -1;
  bool hide_reasoning = false;
  DeviceChoice device;
  int context_tokens = 0;
  std::optional<DType> kv_dtype;
  std::string lora;
};

// A model that is not here is fetched first.
platform::ResolvedModel find_model(Context& context, const std::string& text) {
  const auto reference = platform::ModelReference::parse(text);
  const bool is_path = reference.kind == platform::ReferenceKind::path;
  try {
    return platform::resolve(reference, context.catalog(), context.store());
  } catch (const Error& error) {
    if (is_path || error.code() != ErrorCode::not_found) throw;
  }
  context.note(fmt::format("{} is not on this machine yet", printable(text)));
  // A hub that closes its connection is an error to report; later a closed pipe ends us as any
  // filter.
  signal(SIGPIPE, SIG_IGN);
  const auto [manifest, was_here] = pull_with_progress(context, reference);
  signal(SIGPIPE, SIG_DFL);
  if (!manifest.license_note.empty()) context.note("Licence: " + manifest.license_note);
  return platform::resolve(reference, context.catalog(), context.store());
}

// For those who wait for the end of the command: the system takes a process's memory back at once, and a vocabulary
// of 152,000 tokens takes a tenth of a second to be freed piece by piece.
void keep_to_the_end(const text::Tokenizer& tokenizer) {
  static auto& kept = *new std::vector<std::shared_ptr<const text::Tokenizer>>;
  kept.push_back(tokenizer.shared_from_this());
}

api::ServedModel load(Context& context, const RunOptions& options) {
  const platform::ResolvedModel resolved = find_model(context, options.model);
  if (InterruptScope::requested()) throw Error(ErrorCode::cancelled, "stopped");
  engine::EngineOptions engine_options;
  engine_options.prepared = prepared_store(context, resolved, options.device.prepared_cache,
                                           options.device.threads, NoteKept::at_the_end);
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  engine_options.device = options.device.device;
  engine_options.threads = options.device.threads;
  engine_options.isa = options.device.isa;
  engine_options.pin_threads = options.device.pin_threads;
  engine_options.huge_pages = options.device.huge_pages;
  engine_options.mixed_precision = mixed_precision(options.device.precision);
  engine_options.expert_bytes = expert_bytes(options.device.expert_memory_mib);
  engine_options.context_tokens = options.context_tokens;
  engine_options.kv_dtype = options.kv_dtype;
  engine_options.max_sequences = 1;
  engine_options.load_progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update("loading " + printable(resolved.name), done_bytes, total_bytes);
  };
  if (!options.lora.empty()) {
    const LoraChoice adapter = parse_lora(options.lora);
    engine_options.adapters.push_back({adapter.path, adapter.path, adapter.scale});
  }
  std::shared_ptr<engine::Engine> engine = engine::Engine::start(resolved.path, engine_options);
  keep_to_the_end(engine->tokenizer());
  const api::ServedModel model = api::serve_model(resolved.name, std::move(engine), 0);
  return options.lora.empty() ? model : api::serve_adapter(model, /*adapter=*/0, 0);
}

api::GenerationFields generation_fields(const RunOptions& options) {
  api::GenerationFields fields;
  if (options.temperature >= 0) fields.temperature = options.temperature;
  if (options.top_p >= 0) fields.top_p = options.top_p;
  if (options.max_tokens > 0) fields.max_tokens = options.max_tokens;
  if (options.seed >= 0) fields.seed = static_cast<uint64_t>(options.seed);
  return fields;
}

std::string read_input() {
  std::string text;
  char bytes[65536];
  while (!InterruptScope::requested()) {
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(ErrorCode::io, "standard input cannot be read");
    if (count == 0) break;
    text.append(bytes, static_cast<std::size_t>(count));
    if (text.size() > max_input_bytes) {
      throw Error(ErrorCode::payload_too_large,
                  fmt::format("standard input has more than {} MiB", max_input_bytes >> 20));
    }
  }
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// PROMPT and what is piped in, in this order; empty where there is neither.
std::string read_prompt(const Context& context, const RunOptions& options) {
  std::string prompt = fmt::format("{}", fmt::join(options.words, " "));
  if (context.terminal().input_is_terminal()) return prompt;
  const std::string input = read_input();
  if (!prompt.empty() && !input.empty()) prompt += "\n\n";
  return prompt + input;
}

std::string_view reason_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::stop:
      return "stop";
    case engine::FinishReason::length:
      return "length";
    case engine::FinishReason::tool_calls:
      return "tool_calls";
    case engine::FinishReason::cancelled:
      return "cancelled";
    case engine::FinishReason::failed:
      return "failed";
  }
  return "failed";
}

void print_json(const Context& context, const Conversation::Answer& answer) {
  const engine::Usage& usage = answer.usage;
  const Json body = {{"content", answer.content},
                     {"reasoning", answer.reasoning},
                     {"finish_reason", reason_name(answer.reason)},
                     {"usage",
                      {{"prompt_tokens", usage.prompt_tokens},
                       {"completion_tokens", usage.completion_tokens},
                       {"reasoning_tokens", usage.reasoning_tokens},
                       {"ttft_ms", usage.ttft_ms},
                       {"duration_ms", usage.duration_ms}}}};
  context.print(body.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);  // letting a large model go takes a moment that nobody has to wait for
}

// Asks one question and prints the answer.
Conversation::Answer ask(Context& context, Conversation& conversation, const RunOptions& options,
                         const std::string& question) {
  AnswerPrinter printer(context.terminal(), options.hide_reasoning, context.quiet);
  const auto listener = [&](std::string_view reasoning, std::string_view content) {
    if (!context.json) printer.print(reasoning, content);
  };
  const Conversation::Answer answer = conversation.ask(question, listener);
  if (context.json) {
    print_json(context, answer);
    return answer;
  }
  printer.finish();
  const std::string stopped = answer.reason == engine::FinishReason::cancelled ? " (stopped)"
                              : answer.reason == engine::FinishReason::length
                                  ? " (cut off at the limit)"
                                  : "";
  context.note(
      context.terminal().styled(Stream::error, Style::dim, describe_speed(answer.usage) + stopped));
  return answer;
}

constexpr const char* chat_help =
    "  /system TEXT  set the system prompt; without TEXT show it\n"
    "  /clear        forget the conversation\n"
    "  /bye          leave (or Ctrl-D)\n"
    "  \"\"\"           begin and end a message of several lines\n"
    "  Ctrl-C        stop an answer";

// Goes on until the closing quotes; nullopt where Ctrl-C or Ctrl-D left it.
std::optional<std::string> read_lines(LineEditor& editor, std::string text) {
  constexpr std::string_view quotes = "\"\"\"";
  text.erase(0, quotes.size());
  while (!text.ends_with(quotes)) {
    const LineEditor::Input input = editor.read("... ");
    if (input.outcome != LineEditor::Outcome::line) return std::nullopt;
    text += '\n' + input.line;
  }
  text.erase(text.size() - quotes.size());
  return text;
}

enum class Next { go_on, leave };

Next obey(Context& context, Conversation& conversation, const std::string& line) {
  const std::string command = line.substr(0, line.find(' '));
  const std::size_t start = line.find_first_not_of(' ', command.size());
  const std::string argument = start == std::string::npos ? "" : line.substr(start);
  if (command == "/bye" || command == "/exit" || command == "/quit") return Next::leave;
  if (command == "/clear") {
    conversation.clear();
    context.note("The conversation is forgotten.");
  } else if (command == "/system" && argument.empty()) {
    context.note(conversation.system().empty() ? "There is no system prompt."
                                               : conversation.system());
  } else if (command == "/system") {
    conversation.set_system(argument);
    context.note("The system prompt is set.");
  } else if (command == "/help" || command == "/?") {
    context.note(chat_help);
  } else {
    context.note(fmt::format("There is no {}; /help says what there is.", printable(command)));
  }
  return Next::go_on;
}

void chat(Context& context, Conversation& conversation, const RunOptions& options) {
  LineEditor editor(context.store().root() / "history");
  context.note("Type a message, or /help. Ctrl-D leaves.");
  while (true) {
    InterruptScope::reset();
    const LineEditor::Input input = editor.read(">>> ");
    if (input.outcome == LineEditor::Outcome::end) break;
    if (input.outcome == LineEditor::Outcome::interrupted) {
      context.note("\nCtrl-D or /bye leaves.");
      continue;
    }
    std::string question = input.line;
    if (question.find_first_not_of(" \t") == std::string::npos) continue;
    editor.remember(question);
    if (question.starts_with("\"\"\"")) {
      const auto lines = read_lines(editor, question);
      if (!lines) continue;
      question = *lines;
    } else if (question.starts_with('/')) {
      if (obey(context, conversation, question) == Next::leave) return;
      continue;
    }
    try {
      ask(context, conversation, options, question);
    } catch (const Error& error) {
      context.note(fmt::format("{} (/clear forgets the conversation)", error.message()));
    }
  }
  context.note("");
}

void run(Context& context, const RunOptions& options) {
  const InterruptScope interrupt;
  const std::string prompt = read_prompt(context, options);
  if (InterruptScope::requested()) throw Error(ErrorCode::cancelled, "stopped");
  if (prompt.empty() && !context.terminal().input_is_terminal()) {
    throw Error(ErrorCode::invalid_argument,
                "the prompt is empty; give one as PROMPT or on standard input");
  }
  if (prompt.empty() && context.json) {
    throw Error(ErrorCode::invalid_argument, "a chat has no JSON form; give a PROMPT");
  }
  Conversation conversation(load(context, options), generation_fields(options), options.system);
  if (prompt.empty()) {
    chat(context, conversation, options);
    return;
  }
  const Conversation::Answer answer = ask(context, conversation, options, prompt);
  if (answer.reason == engine::FinishReason::cancelled) context.exit_code = ExitCode::interrupted;
}

void add_sampling_options(CLI::App& command, RunOptions& options) {
  command.add_option("--system", options.system, "The system prompt");
  command
      .add_option("--temperature", options.temperature,
                  "0 picks the likeliest token; else the model's own")
      ->check(CLI::Range(0.0, 2.0));
  command
      .add_option("--top-p", options.top_p,
                  "Pick among the likeliest tokens with this much probability")
      ->check(CLI::Range(0.001, 1.0));
  command
      .add_option("--max-tokens", options.max_tokens,
                  "Longest answer; else the rest of the context")
      ->check(CLI::Range(1, 1 << 24));
  command.add_option("--seed", options.seed, "The same seed gives the same answer")
      ->check(CLI::NonNegativeNumber);
  command.add_flag("--hide-reasoning", options.hide_reasoning, "Show the answer alone");
}

}  // namespace

void add_run_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("run", "Ask a model, or chat with it in the terminal");
  command->group(use_group);
  command->footer(
      "Examples:\n"
      "  ridge run smollm2:135m \"Why is the sky blue?\"\n"
      "  git diff | ridge run deepseek-r1:7b \"Review this change:\"\n"
      "  ridge run deepseek-r1:1.5b                  a chat; /help says what it knows\n"
      "\n"
      "The answer alone goes to standard output. Where that is no terminal, the reasoning goes to "
      "standard\n"
      "error, as do notes and speed. What is piped in is read to its end and stands behind PROMPT. "
      "A model\n"
      "that is not here is pulled first. Ctrl-C stops the answer, not the chat.");
  auto options = std::make_shared<RunOptions>();
  command
      ->add_option("MODEL", options->model,
                   "A catalog name, hf:... or a path to a GGUF file or model folder")
      ->required();
  command->add_option("PROMPT", options->words,
                      "The question; without it, standard input or a chat");
  add_sampling_options(*command, *options);
  add_device_options(*command, options->device);
  add_kv_dtype_setting(*command, options->kv_dtype);
  add_lora_option(*command, options->lora);
  command
      ->add_option("--context", options->context_tokens,
                   "Tokens of the whole conversation; 0 for the model's own")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->callback([&context, options] { run(context, *options); });
}

}  // namespace ridge::cli
