#include "text/tool_style.h"

#include <array>

#include "text/chat_template.h"
#include "text/qwen3_coder.h"

namespace ridge::text {
namespace {

constexpr ToolTags hermes_tags = {.block_open = "",
                                  .block_close = "",
                                  .call_open = "<tool_call>",
                                  .call_close = "</tool_call>",
                                  .separator = ""};
constexpr ToolTags llama3_tags = {.block_open = "",
                                  .block_close = "",
                                  .call_open = "<|python_tag|>",
                                  .call_close = "",
                                  .separator = ""};
constexpr ToolTags deepseek_tags = {.block_open = "<｜tool▁calls▁begin｜>",
                                    .block_close = "<｜tool▁calls▁end｜>",
                                    .call_open = "<｜tool▁call▁begin｜>",
                                    .call_close = "<｜tool▁call▁end｜>",
                                    .separator = "<｜tool▁sep｜>"};

// HarmonyParser and the grammars know its messages.
constexpr ToolTags harmony_tags = {
    .block_open = "", .block_close = "", .call_open = "", .call_close = "", .separator = ""};

constexpr std::array<ToolStyle, 5> all = {ToolStyle::hermes, ToolStyle::llama3, ToolStyle::deepseek,
                                          ToolStyle::qwen3_coder, ToolStyle::harmony};

}  // namespace

const ToolTags& tags_of(ToolStyle style) {
  switch (style) {
    case ToolStyle::llama3:
      return llama3_tags;
    case ToolStyle::deepseek:
      return deepseek_tags;
    case ToolStyle::harmony:
      return harmony_tags;
    case ToolStyle::hermes:
    case ToolStyle::qwen3_coder:  // around what is no JSON
      break;
  }
  return hermes_tags;
}

std::string_view name(ToolStyle style) {
  switch (style) {
    case ToolStyle::llama3:
      return "llama3";
    case ToolStyle::deepseek:
      return "deepseek";
    case ToolStyle::qwen3_coder:
      return "qwen3_coder";
    case ToolStyle::harmony:
      return "harmony";
    case ToolStyle::hermes:
      break;
  }
  return "hermes";
}

std::optional<ToolStyle> tool_style_named(std::string_view wanted) {
  for (const ToolStyle style : all) {
    if (name(style) == wanted) return style;
  }
  return std::nullopt;
}

ToolStyle detect_tool_style(const ChatTemplate& chat_template) {
  const std::string_view source = chat_template.source();
  const auto mentions = [&](std::string_view text) {
    return source.find(text) != std::string_view::npos;
  };
  // What the template writes itself goes before what its turns look like: the distill of R1-0528 to
  // Qwen 3 has DeepSeek's turns in Qwen's vocabulary.
  if (mentions(deepseek_tags.call_open)) return ToolStyle::deepseek;
  if (mentions(qwen3_coder::function_open) && mentions(qwen3_coder::parameter_open))
    return ToolStyle::qwen3_coder;
  if (mentions(hermes_tags.call_open)) return ToolStyle::hermes;
  if (mentions(llama3_tags.call_open) || mentions("<|start_header_id|>")) return ToolStyle::llama3;
  if (mentions("<｜Assistant｜>")) return ToolStyle::deepseek;
  return ToolStyle::hermes;
}

}  // namespace ridge::text
