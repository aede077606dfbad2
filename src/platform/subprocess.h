#pragma once

#include <functional>
#include <string>
#include <vector>

#include "platform/folder.h"

namespace ridge::platform {

struct ProcessResult {
  bool was_found = true;  // false: there is no such program
  int exit_code = 0;      // 128 + the signal's number where a signal ended it
  std::string output;     // standard output and error together, the last 16 kB
};

struct ProcessOptions {
  const Folder* working_folder = nullptr;  // nullptr: that of this process
  std::vector<std::string> withheld;       // environment variables that it does not inherit
  std::vector<std::string> added;          // "NAME=value", in place of what it would inherit
  std::function<bool()> is_cancelled;
};

// Runs a program found in PATH with these words as they are (no shell), with the environment of
// this process but for what is withheld or added and no standard input, and waits for it. It is ended, and
// cancelled is thrown, as soon as `is_cancelled` says so. Throws io where it cannot be started for
// another reason.
ProcessResult run_process(const std::vector<std::string>& words,
                          const ProcessOptions& options = {});

}  // namespace ridge::platform
