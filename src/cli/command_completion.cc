#include <fmt/format.h>

#include <map>

#include "cli/commands.h"
#include "cli/completion.h"

namespace ridge::cli {

void add_completion_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for your shell");
  command->group(other_group);
  command->footer(
      "bash   source <(ridge completion bash)              in ~/.bashrc\n"
      "zsh    source <(ridge completion zsh)               in ~/.zshrc, after compinit\n"
      "fish   ridge completion fish | source               in ~/.config/fish/config.fish");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([&app, &context, shell] {
    const std::map<std::string, Shell> shells = {
        {"bash", Shell::bash}, {"zsh", Shell::zsh}, {"fish", Shell::fish}};
    context.print(completion_script(app, shells.at(*shell)));
  });
}

}  // namespace ridge::cli
