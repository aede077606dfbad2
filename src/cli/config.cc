#include "cli/config.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <CLI/Error.hpp>
#include <CLI/Option.hpp>
#include <algorithm>
#include <cctype>
#include <vector>

#include "base/error.h"
#include "base/read_text.h"

namespace ridge::cli {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& file, const toml::source_region& where,
                         std::string_view message) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}:{}: {}", file.string(), where.begin.line, message));
}

toml::table parse(const std::filesystem::path& file) {
  const std::string text = read_text(file);
  try {
    return toml::parse(text, file.string());
  } catch (const toml::parse_error& error) {
    refuse(file, error.source(), fmt::format("not TOML: {}", error.description()));
  }
}

// The words that the option would have been given on the command line.
std::vector<std::string> words_of(const std::filesystem::path& file, std::string_view key,
                                  const toml::node& node) {
  if (const auto* text = node.as_string()) return {text->get()};
  if (const auto* number = node.as_integer()) return {std::to_string(number->get())};
  if (const auto* number = node.as_floating_point()) return {fmt::format("{}", number->get())};
  if (const auto* flag = node.as_boolean()) return {flag->get() ? "true" : "false"};
  if (const auto* array = node.as_array()) {
    std::vector<std::string> words;
    for (const toml::node& element : *array) {
      if (element.is_array())
        refuse(file, element.source(), fmt::format("'{}': a list in a list", key));
      for (std::string& word : words_of(file, key, element)) words.push_back(std::move(word));
    }
    return words;
  }
  refuse(file, node.source(),
         fmt::format("'{}' must be a string, a number, true or false, or a list of these", key));
}

// TOML keys use '_', flags use '-'; the positional MODEL is the list `models`.
CLI::Option* find_option(CLI::App& command, const std::string& key) {
  if (key == "config" || key == "help") return nullptr;
  std::string flag = key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return command.get_option_no_throw(key == "models" ? "MODEL" : "--" + flag);
}

}  // namespace

std::string environment_name(std::string_view flag) {
  std::string name = "RIDGE_";
  for (const char letter : flag) {
    name +=
        letter == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return name;
}

void apply_config_file(CLI::App& command, const std::filesystem::path& file,
                       UnknownKeys unknown_keys) {
  const toml::table table = parse(file);
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str());
    CLI::Option* option = find_option(command, key);
    if (option == nullptr && unknown_keys == UnknownKeys::skip) continue;
    if (option == nullptr) {
      refuse(file, node.source(),
             fmt::format("'{}' is no setting of 'ridge {}' (see ridge {} --help)", key,
                         command.get_name(), command.get_name()));
    }
    if (option->count() > 0) continue;  // a flag or the environment has spoken
    try {
      option->add_result(words_of(file, key, node));
      option->run_callback();
    } catch (const CLI::Error& error) {
      refuse(file, node.source(), fmt::format("'{}': {}", key, error.what()));
    }
  }
}

}  // namespace ridge::cli
