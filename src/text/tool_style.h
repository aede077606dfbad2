#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ridge::text {

class ChatTemplate;
class Tokenizer;

// How a model family writes a call of a tool.
enum class ToolStyle {
  hermes,  // <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>: Hermes, Qwen 2.5, Qwen 3
  llama3,  // {"name": …, "parameters": {…}}, also after <|python_tag|>; several with ;
  deepseek,  // <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{…}\n```
             // <｜tool▁call▁end｜><｜tool▁calls▁end｜>: DeepSeek-R1 and its distills, V3
  qwen3_coder,  // <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n
                // </tool_call>, strings without quotes: Qwen3-Coder, Qwen 3.5
  harmony,  // <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>:
            // gpt-oss; read by HarmonyParser
};

struct ToolTags {
  std::string_view block_open, block_close;  // around all calls; may be empty
  std::string_view call_open, call_close;    // around each call; may be empty
  std::string_view separator;                // between kind and name; may be empty
};
const ToolTags& tags_of(ToolStyle style);

std::string_view name(ToolStyle style);
std::optional<ToolStyle> tool_style_named(std::string_view name);
inline constexpr std::string_view tool_style_names =
    "hermes, llama3, deepseek, qwen3_coder, harmony";

// The style that the template writes, but harmony (speaks_harmony), or, where it writes none, the
// one that fits its turns.
ToolStyle detect_tool_style(const ChatTemplate& chat_template);

}  // namespace ridge::text
