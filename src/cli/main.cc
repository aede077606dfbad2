#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "text/grammar_checker.h"

namespace ridge::cli {
namespace {

constexpr const char* program_description =
    "Ridgeline: a private model service in one program.\n"
    "It fetches open models, answers in the terminal, and serves an OpenAI-compatible API.";

constexpr const char* main_footer =
    "Examples:\n"
    "  ridge pull smollm2:135m                    fetch a small model into the local store\n"
    "  ridge list --all                           what is here, and what can be pulled\n"
    "  ridge show ./model.gguf                    what a file holds\n"
    "  ridge pull hf:organisation/repository:Q8_0 any GGUF repository of Hugging Face\n"
    "\n"
    "A MODEL is a catalog name (deepseek-r1:1.5b, deepseek-r1:1.5b-q8_0), "
    "hf:organisation/repository\n"
    "[:quantisation], or a path to a GGUF file or model folder.\n"
    "\n"
    "Environment:\n"
    "  RIDGE_HOME           where models are kept (else XDG_DATA_HOME/ridge, else "
    "~/.local/share/ridge)\n"
    "  RIDGE_CATALOG        a catalog file instead of the one built in\n"
    "  HF_TOKEN             a Hugging Face token, for models that ask for one\n"
    "  HF_ENDPOINT, MODELSCOPE_ENDPOINT    mirrors of the two hubs\n"
    "  HTTPS_PROXY, HTTP_PROXY, NO_PROXY   as for curl\n"
    "  NO_COLOR             no colours\n"
    "\n"
    "Exit codes: 0 done; 1 it failed; 2 the command line is wrong; 130 stopped with Ctrl-C.\n"
    "Errors are one line, 'ridge: ...', on standard error; with --json an object\n"
    "{\"error\":{\"code\":...,\"message\":...}} on standard output.";

void add_global_options(CLI::App& app, Context& context) {
  app.set_version_flag("-V,--version", "ridge " RIDGE_VERSION, "Print the version and stop");
  app.set_help_flag("-h,--help", "Print this help, or a command's, and stop");
  app.add_flag("--json", context.json, "Answer in JSON, for programs");
  app.add_flag("-q,--quiet", context.quiet, "No progress and no notes");
  app.add_option("--home", context.home, "Where models are kept")->type_name("DIR");
  app.add_option("--catalog", context.catalog_file, "A catalog file instead of the one built in")
      ->type_name("FILE");
  // Global options may stand after the command as well.
  app.fallthrough();
}

// The order here is the order of the help. One line for each command.
void add_commands(CLI::App& app, Context& context) {
  add_run_command(app, context);
  add_serve_command(app, context);
  add_ps_command(app, context);
  add_key_command(app, context);
  add_project_command(app, context);
  add_user_command(app, context);
  add_endpoint_command(app, context);
  add_limit_command(app, context);
  add_price_command(app, context);
  add_usage_command(app, context);
  add_audit_command(app, context);
  add_backup_command(app, context);
  add_restore_command(app, context);
  add_pull_command(app, context);
  add_list_command(app, context);
  add_show_command(app, context);
  add_verify_command(app, context);
  add_rm_command(app, context);
  add_convert_command(app, context);
  add_imatrix_command(app, context);
  add_quantize_command(app, context);
  add_tokenize_command(app, context);
  add_bench_command(app, context);
  add_plan_command(app, context);
  add_profile_command(app, context);
  add_logits_command(app, context);
  add_doctor_command(app, context);
  add_completion_command(app, context);
}

// The options are parsed only after an error in them, so that --json is looked for by hand.
bool asks_for_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--") == 0) return false;
    if (std::strcmp(argv[i], "--json") == 0) return true;
  }
  return false;
}

void report(const Context& context, bool json, std::string_view code, std::string_view message) {
  if (json) {
    const nlohmann::json body = {{"error", {{"code", code}, {"message", message}}}};
    context.print(body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  const Terminal& terminal = context.terminal();
  const std::string prefix = terminal.styled(Stream::error, Style::red, "ridge:");
  fmt::print(stderr, "{} {}\n", prefix, printable(message));
}

ExitCode exit_code_of(const Error& error) {
  switch (error.code()) {
    case ErrorCode::cancelled:
      return ExitCode::interrupted;
    case ErrorCode::invalid_argument:
      return ExitCode::usage;
    default:
      return ExitCode::failure;
  }
}

// "ridge pull": what to put before --help after a wrong command line.
std::string command_path(const CLI::App& app) {
  std::string path = app.get_name();
  for (const CLI::App* command : app.get_subcommands()) path += " " + command_path(*command);
  return path;
}

// An option that wants a value would take --help for it. Whoever asks for help before it has one
// gets help all the same: the command line without that option.
std::vector<char*> without_options_before_help(int argc, char** argv) {
  std::vector<char*> words;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") {
      words.insert(words.end(), argv + i, argv + argc);
      break;
    }
    const bool asks = word == "--help" || word == "-h";
    if (asks && words.size() > 1 && words.back()[0] == '-') words.pop_back();
    words.push_back(argv[i]);
  }
  return words;
}

ExitCode run(int argc, char** argv) {
  Context context;
  CLI::App app{program_description, "ridge"};
  app.footer(main_footer);
  app.get_formatter()->column_width(26);
  add_global_options(app, context);
  add_commands(app, context);
  const bool json = asks_for_json(argc, argv);
  try {
    if (argc <= 1) {
      fmt::print(stderr, "{}", app.help());
      return ExitCode::usage;
    }
    app.require_subcommand(1);
    const std::vector<char*> words = without_options_before_help(argc, argv);
    app.parse(static_cast<int>(words.size()), words.data());
    return context.exit_code;
  } catch (const CLI::Success& request) {  // --help and --version
    app.exit(request);
    return ExitCode::ok;
  } catch (const CLI::ParseError& error) {
    const std::string hint = fmt::format("{} (see {} --help)", error.what(), command_path(app));
    report(context, json, name(ErrorCode::invalid_argument), hint);
    return ExitCode::usage;
  } catch (const Error& error) {
    report(context, json, name(error.code()), error.message());
    return exit_code_of(error);
  } catch (const std::exception& error) {
    report(context, json, name(ErrorCode::internal),
           fmt::format("internal error: {}", error.what()));
    return ExitCode::failure;
  }
}

}  // namespace
}  // namespace ridge::cli

int main(int argc, char** argv) {
  // A file that meets its limit is an error to report, like a full disk.
  signal(SIGXFSZ, SIG_IGN);
  if (argc == 2 && std::strcmp(argv[1], ridge::cli::grammar_checker_command) == 0) {
    ridge::text::serve_grammar_checks(STDIN_FILENO);
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], ridge::cli::rank_command) == 0) {
    return ridge::cli::run_as_rank(argc, argv);
  }
  return static_cast<int>(ridge::cli::run(argc, argv));
}
