#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "format/gguf.h"
#include "format/model_folder.h"
#include "platform/resolve.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::cli {
namespace {

struct TokenizeOptions {
  std::string model;
  std::string text;
  bool chat = false;
  bool no_special = false;
};

std::string read_text(const std::string& text) {
  if (text != "-") return text;
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

std::vector<int32_t> encode_chat(const text::Tokenizer& tokenizer, const format::GgufFile& file,
                                 const std::string& text) {
  const auto chat_template = text::ChatTemplate::from_gguf(file, tokenizer);
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", text}}};
  return tokenizer.encode(chat_template->render(messages),
                          {.add_special = !chat_template->writes_bos(), .parse_special = true});
}

void tokenize(Context& context, const TokenizeOptions& options) {
  const auto reference = platform::ModelReference::parse(options.model);
  const platform::ResolvedModel model =
      platform::resolve(reference, context.catalog(), context.store());
  const format::GgufFile file = format::open_model(model.path);
  const auto tokenizer = text::Tokenizer::from_gguf(file);
  const std::string text = read_text(options.text);
  const std::vector<int32_t> ids =
      options.chat ? encode_chat(*tokenizer, file, text)
                   : tokenizer->encode(text, {.add_special = !options.no_special});
  context.print(nlohmann::json(ids).dump());
}

}  // namespace

void add_tokenize_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("tokenize", "Print the token ids of a text, as a JSON list");
  command->group(measure_group);
  command->footer(
      "The ids are those of Hugging Face's tokenizer for the same vocabulary: control tokens "
      "written in\n"
      "the text are recognised, and BOS is added where the model asks for it.");
  auto options = std::make_shared<TokenizeOptions>();
  command
      ->add_option("MODEL", options->model,
                   "A catalog name, hf:... or a path to a GGUF file or model folder")
      ->required();
  command->add_option("TEXT", options->text, "The text, or - for standard input")->required();
  CLI::Option* chat = command->add_flag(
      "--chat", options->chat,
      "Take the text as a user's message: the chat template is put around it, up to the answer");
  command->add_flag("--no-special", options->no_special, "Add no BOS or EOS")->excludes(chat);
  command->callback([&context, options] { tokenize(context, *options); });
}

}  // namespace ridge::cli
