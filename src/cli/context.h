#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "cli/terminal.h"
#include "platform/catalog.h"
#include "platform/store.h"

namespace ridge::cli {

// The exit codes that `ridge --help` documents.
enum class ExitCode : int { ok = 0, failure = 1, usage = 2, interrupted = 130 };

// What the global options say and what commands share. One for each run of the program.
class Context {
 public:
  // Set by the global options before a command's callback runs.
  bool json = false;         // --json: one JSON document on standard output, also for an error
  bool quiet = false;        // --quiet: no progress, no notes
  std::string home;          // --home; empty: RIDGE_HOME or the XDG data folder
  std::string catalog_file;  // --catalog; empty: RIDGE_CATALOG or the one built in

  // What main returns where nothing was thrown.
  ExitCode exit_code = ExitCode::ok;

  const Terminal& terminal() const { return terminal_; }
  // Loaded at the first call. Throws as the loaders do.
  const platform::Catalog& catalog();
  platform::Store& store();

  // A line of text, or of JSON, on standard output.
  void print(std::string_view text) const;
  // A note for a person on standard error; silent with --quiet or --json.
  void note(std::string_view text) const;

 private:
  Terminal terminal_;
  std::optional<platform::Catalog> catalog_;
  std::optional<platform::Store> store_;
};

}  // namespace ridge::cli
