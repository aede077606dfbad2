#include "cli/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

namespace ridge::cli::completion_test {
namespace {

TEST(Completion, NamesEachCommandAndOptionOfTheTree) {
  CLI::App app("", "ridge");
  bool json = false;
  app.add_flag("--json", json, "JSON");
  CLI::App* pull = app.add_subcommand("pull", "It's fetched: [now]");
  std::string model;
  int attempts = 0;
  pull->add_option("MODEL", model);
  pull->add_option("--attempts", attempts, "How often");
  app.add_subcommand("list", "Lists");
  for (const Shell shell : {Shell::bash, Shell::zsh, Shell::fish}) {
    const std::string script = completion_script(app, shell);
    for (const char* word : {"pull", "list", "attempts", "json", "ridge list --json"}) {
      EXPECT_THAT(script, testing::HasSubstr(word));
    }
    EXPECT_THAT(script, testing::Not(testing::HasSubstr("It's fetched")))
        << "a quote must be escaped";
  }
}

}  // namespace
}  // namespace ridge::cli::completion_test
