#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <CLI/App.hpp>

namespace ridge::cli {

// Settings that a command takes from its flags, from the environment, and from a TOML file; the
// first of these that gives a value wins, and what none gives keeps its default.
//
//   std::string host = "127.0.0.1";
//   add_setting(*serve, "host", host, "Address to listen on");   // --host, RIDGE_HOST, host =
//   "..." std::string config; serve->add_option("--config", config, "Settings from a TOML file");
//   serve->callback([=] { if (!config.empty()) apply_config_file(*serve, config); ... });

// "max-tokens" -> "RIDGE_MAX_TOKENS".
std::string environment_name(std::string_view flag);

// Declares `--flag`, with RIDGE_FLAG for the environment. `flag` has no leading dashes; the TOML
// key is the same word with '_' for '-'. A bool is a switch: --flag, RIDGE_FLAG=true, flag = true.
template <typename T>
CLI::Option* add_setting(CLI::App& command, const std::string& flag, T& variable,
                         const std::string& description) {
  CLI::Option* option;
  if constexpr (std::is_same_v<T, bool>) {
    option = command.add_flag("--" + flag, variable, description);
  } else {
    option = command.add_option("--" + flag, variable, description)->capture_default_str();
  }
  return option->envname(environment_name(flag));
}

// Gives each option of `command` that neither the command line nor the environment set the value
// that the file has for it. A key may also name a positional (`models = ["a", "b"]`). Call it first
// in the command's callback, and check what is required after it. Throws invalid_argument naming
// file, line and key for a key that the command does not have (--config itself and --help among
// them), for a value of the wrong type or range, and for TOML that does not parse; not_found or io
// where the file cannot be read.
// With `skip`, keys that the command does not have are left out.
enum class UnknownKeys { refuse, skip };
void apply_config_file(CLI::App& command, const std::filesystem::path& file,
                       UnknownKeys unknown_keys = UnknownKeys::refuse);

}  // namespace ridge::cli
