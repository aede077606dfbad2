#include "cli/completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace ridge::cli {
namespace {

struct Choice {
  std::string word;
  std::string meaning;  // one line
};

struct Command {
  Choice choice;
  std::vector<Choice> options;  // long ones, those of the whole program and of actions included
  std::vector<Choice> actions;  // the words that follow it: "create" of "key"
  bool takes_model = false;
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void append_options(const CLI::App& app, std::vector<Choice>& options) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      options.push_back({"--" + name, first_line(option->get_description())});
    }
  }
}

void append_missing(const CLI::App& app, std::vector<Choice>& options) {
  std::vector<Choice> more;
  append_options(app, more);
  for (const Choice& option : more) {
    const auto same = [&](const Choice& other) { return other.word == option.word; };
    if (std::none_of(options.begin(), options.end(), same)) options.push_back(option);
  }
}

std::vector<const CLI::App*> subcommands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<Command> commands_of(const CLI::App& app) {
  std::vector<Command> commands;
  for (const CLI::App* each : subcommands_of(app)) {
    Command command{.choice = {each->get_name(), first_line(each->get_description())}};
    append_options(*each, command.options);
    for (const CLI::App* action : subcommands_of(*each)) {
      command.actions.push_back({action->get_name(), first_line(action->get_description())});
      append_missing(*action, command.options);
    }
    append_missing(app, command.options);
    std::erase_if(command.options, [](const Choice& option) { return option.word == "--version"; });
    for (const CLI::Option* option : each->get_options()) {
      if (option->get_positional() && option->get_name() == "MODEL") command.takes_model = true;
    }
    commands.push_back(std::move(command));
  }
  return commands;
}

std::string words(const std::vector<Choice>& choices) {
  std::string text;
  for (const Choice& choice : choices) text += (text.empty() ? "" : " ") + choice.word;
  return text;
}

// For single quotes of a shell.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result + "'";
}

// The names that `ridge list --json` gives, one a line; fast, and silent where it fails.
constexpr const char* list_models =
    "ridge list --json 2>/dev/null | sed -n 's/^      \"name\": \"\\(.*\\)\",$/\\1/p'";

std::string bash_script(const std::vector<Command>& commands) {
  std::vector<Choice> names;
  std::string cases;
  for (const Command& command : commands) {
    names.push_back(command.choice);
    cases += fmt::format("    {}) options={}; actions={}; models={} ;;\n", command.choice.word,
                         quoted(words(command.options)), quoted(words(command.actions)),
                         command.takes_model ? 1 : 0);
  }
  return fmt::format(
      "# bash completion for ridge; load it with: source <(ridge completion bash)\n"
      "_ridge() {{\n"
      "  local current=\"${{COMP_WORDS[COMP_CWORD]}}\" command=\"\" at=0 options=\"\" actions=\"\" "
      "models=0 i\n"
      "  # A ':' splits words; put the name that is being typed together again.\n"
      "  if declare -F _get_comp_words_by_ref >/dev/null; then\n"
      "    local words cword; _get_comp_words_by_ref -n : -c current -w words -i cword\n"
      "  else\n"
      "    local words=(\"${{COMP_WORDS[@]}}\") cword=$COMP_CWORD\n"
      "  fi\n"
      "  for ((i = 1; i < cword; i++)); do\n"
      "    if [[ ${{words[i]}} != -* ]]; then command=${{words[i]}}; at=$i; break; fi\n"
      "  done\n"
      "  case \"$command\" in\n"
      "{}"
      "    *) COMPREPLY=($(compgen -W {} -- \"$current\")); return ;;\n"
      "  esac\n"
      "  if [[ $current == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
      "  elif [[ $actions ]] && ((cword == at + 1)); then\n"
      "    COMPREPLY=($(compgen -W \"$actions\" -- \"$current\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -f -- \"$current\"))\n"
      "    if ((models)); then COMPREPLY+=($(compgen -W \"$({})\" -- \"$current\")); fi\n"
      "  fi\n"
      "  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "
      "\"$current\"; fi\n"
      "}}\n"
      "complete -o filenames -F _ridge ridge\n",
      cases, quoted(words(names)), list_models);
}

std::string zsh_script(const std::vector<Command>& commands) {
  std::string names;
  std::string cases;
  for (const Command& command : commands) {
    names += "    " + quoted(command.choice.word + ":" + command.choice.meaning) + "\n";
    std::string options;
    for (const Choice& option : command.options) {
      std::string meaning = option.meaning;
      for (const char* special : {"[", "]", ":"}) {
        for (size_t at = 0; (at = meaning.find(special, at)) != meaning.npos;) meaning[at] = ' ';
      }
      options += " " + quoted(fmt::format("{}[{}]", option.word, meaning));
    }
    if (!command.actions.empty())
      options += fmt::format(" '1:action:({})'", words(command.actions));
    cases += fmt::format("    {}) _arguments -s{} {} ;;\n", command.choice.word, options,
                         command.takes_model ? "'*:model:_ridge_models'" : "'*:file:_files'");
  }
  return fmt::format(
      "#compdef ridge\n"
      "# zsh completion for ridge; load it with: source <(ridge completion zsh)\n"
      "_ridge_models() {{\n"
      "  local -a models; models=(${{(f)\"$({})\"}})\n"
      "  compadd -- $models; _files\n"
      "}}\n"
      "_ridge() {{\n"
      "  local -a commands; commands=(\n"
      "{}"
      "  )\n"
      "  if ((CURRENT == 2)); then _describe command commands; return; fi\n"
      "  local command=$words[2]\n"
      "  shift words; ((CURRENT--))\n"
      "  case $command in\n"
      "{}"
      "  esac\n"
      "}}\n"
      "compdef _ridge ridge\n",
      list_models, names, cases);
}

std::string fish_script(const std::vector<Command>& commands) {
  std::string text =
      "# fish completion for ridge; load it with: ridge completion fish | source\n"
      "complete -c ridge -e\n";
  std::string all;
  for (const Command& command : commands) all += " " + command.choice.word;
  for (const Command& command : commands) {
    text += fmt::format("complete -c ridge -n 'not __fish_seen_subcommand_from{}' -f -a {} -d {}\n",
                        all, command.choice.word, quoted(command.choice.meaning));
    const std::string here =
        fmt::format("complete -c ridge -n '__fish_seen_subcommand_from {}'", command.choice.word);
    for (const Choice& option : command.options) {
      text += fmt::format("{} -l {} -d {}\n", here, option.word.substr(2), quoted(option.meaning));
    }
    for (const Choice& action : command.actions) {
      text += fmt::format("{} -f -a {} -d {}\n", here, action.word, quoted(action.meaning));
    }
    if (command.takes_model)
      text += fmt::format("{} -a {}\n", here, quoted(fmt::format("({})", list_models)));
  }
  return text;
}

}  // namespace

std::string completion_script(const CLI::App& app, Shell shell) {
  const std::vector<Command> commands = commands_of(app);
  switch (shell) {
    case Shell::bash:
      return bash_script(commands);
    case Shell::zsh:
      return zsh_script(commands);
    case Shell::fish:
      return fish_script(commands);
  }
  return {};
}

}  // namespace ridge::cli
