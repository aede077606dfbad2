#include "text/tool_prompt.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "text/harmony.h"
#include "text/qwen3_coder.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

// What is no object stays as it is.
std::string as_parameters(const std::string& arguments) {
  const auto object = ordered_json::parse(arguments, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return arguments + "\n";
  std::string text;
  for (const auto& [key, value] : object.items()) {
    const std::string shown =
        value.is_string() ? value.get<std::string>()
                          : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    text += fmt::format("{}{}{}\n{}\n{}\n", qwen3_coder::parameter_open, key, qwen3_coder::name_end,
                        shown, qwen3_coder::parameter_close);
  }
  return text;
}

std::string one_call(ToolStyle style, const std::string& name, const std::string& arguments) {
  const ToolTags& tags = tags_of(style);
  const std::string quoted = ordered_json(name).dump();
  switch (style) {
    case ToolStyle::hermes:
      return fmt::format("{}\n{{\"name\": {}, \"arguments\": {}}}\n{}", tags.call_open, quoted,
                         arguments, tags.call_close);
    case ToolStyle::llama3:
      return fmt::format("{{\"name\": {}, \"parameters\": {}}}", quoted, arguments);
    case ToolStyle::harmony:
      return fmt::format("{}{} to={}{} {}json{}{}{}", harmony::channel, harmony::commentary,
                         harmony::functions, name, harmony::constrain, harmony::message, arguments,
                         harmony::call);
    case ToolStyle::qwen3_coder:
      return fmt::format("{}\n{}{}{}\n{}{}\n{}", tags.call_open, qwen3_coder::function_open, name,
                         qwen3_coder::name_end, as_parameters(arguments),
                         qwen3_coder::function_close, tags.call_close);
    case ToolStyle::deepseek:
      break;
  }
  return fmt::format("{}function{}{}\n```json\n{}\n```{}", tags.call_open, tags.separator, name,
                     arguments, tags.call_close);
}

std::string_view between_calls(ToolStyle style) { return style == ToolStyle::llama3 ? "; " : "\n"; }

}  // namespace

std::string describe_tools(ToolStyle style, const ordered_json& tools) {
  std::string text = "You can call the functions below. Each is described by a JSON schema.\n\n";
  for (const ordered_json& tool : tools) {
    text += tool.at("function").dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    text += '\n';
  }
  const ToolTags& tags = tags_of(style);
  text += "\nTo call one, answer in exactly this form, with ";
  text += style == ToolStyle::qwen3_coder ? "each argument in tags of its own:\n"
                                          : "the arguments as a JSON object:\n";
  text += tags.block_open;
  text += one_call(style, "FUNCTION_NAME", "{\"ARGUMENT\": \"VALUE\"}");
  text += tags.block_close;
  text +=
      "\nThe results are then given to you, and you can go on. Where no function is of use, answer "
      "without a call.";
  return text;
}

std::string write_calls(ToolStyle style, const ordered_json& calls) {
  const ToolTags& tags = tags_of(style);
  std::string text(tags.block_open);
  bool first = true;
  for (const ordered_json& call : calls) {
    if (!std::exchange(first, false)) text += between_calls(style);
    const ordered_json& function = call.at("function");
    text += one_call(style, function.at("name").get<std::string>(),
                     function.at("arguments").get<std::string>());
  }
  text += tags.block_close;
  return text;
}

}  // namespace ridge::text
