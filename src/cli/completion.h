#pragma once

#include <CLI/App.hpp>
#include <string>

namespace ridge::cli {

enum class Shell { bash, zsh, fish };

// A completion script made from the command tree: subcommands, their actions and options, the names
// of models (asked of `ridge list` when the key is pressed) where a command takes MODEL, and files
// elsewhere.
std::string completion_script(const CLI::App& app, Shell shell);

}  // namespace ridge::cli
