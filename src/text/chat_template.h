#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "text/reasoning.h"

struct tk_template;  // rust/textkit/include/textkit.h

namespace ridge::format {
class GgufFile;
}

namespace ridge::text {

class Tokenizer;

struct RenderOptions {
  // Ends the prompt where the assistant's answer begins.
  bool add_generation_prompt = true;
  // An array of tools as in the request, or nullptr: the template then sees `tools` as none.
  const nlohmann::ordered_json* tools = nullptr;
  // An object of further variables (chat_template_kwargs), or nullptr. The caller allows only known
  // names; messages, tools, bos_token, eos_token and add_generation_prompt cannot be replaced.
  const nlohmann::ordered_json* variables = nullptr;
  // What `strftime_now` formats, in local time; the present where empty.
  std::optional<int64_t> now_unix_seconds;
};

// What a template makes of tools. What it leaves out must be said to the model otherwise.
struct ToolSupport {
  bool tools = false;    // it lists the tools
  bool calls = false;    // it writes the calls of earlier answers
  bool results = false;  // it writes messages of the role `tool`
  // It wants the arguments of calls as objects, as transformers passes them, and not as JSON text.
  bool argument_objects = true;
};

// A Jinja chat template, rendered as Hugging Face `apply_chat_template` renders it (trim_blocks,
// lstrip_blocks, Python's string methods, `tojson`, `strftime_now`, `raise_exception`), in a
// sandbox with caps on source, instructions, recursion and output. Immutable: `render` may be
// called from any number of threads.
class ChatTemplate {
 public:
  static constexpr std::size_t max_source_bytes = std::size_t{256} << 10;
  static constexpr std::size_t max_input_bytes = std::size_t{16} << 20;
  static constexpr std::size_t max_output_bytes = std::size_t{4} << 20;

  // The file's `tokenizer.chat_template`, or ChatML where it has none. Error(invalid_file) names
  // the line of a template that does not parse.
  static std::shared_ptr<const ChatTemplate> from_gguf(const format::GgufFile& file,
                                                       const Tokenizer& tokenizer);
  // `bos_token` and `eos_token` are what the template sees under these names; may be empty.
  static std::shared_ptr<const ChatTemplate> from_source(std::string_view source,
                                                         std::string_view bos_token,
                                                         std::string_view eos_token);
  // The template for models that name none:
  // `<|im_start|>role\ncontent<|im_end|>\n` for each message.
  static std::string_view chatml_source();

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The prompt for `messages`, an array of objects; key order is kept where a template prints JSON.
  // Encode it with {.add_special = false, .parse_special = true}, as Hugging Face does: where a
  // model wants BOS, its template writes it. Error(invalid_argument) carries the template's own
  // message (raise_exception) or names the cap that was hit.
  std::string render(const nlohmann::ordered_json& messages,
                     const RenderOptions& options = {}) const;

  // Whether the rendered prompt begins with the BOS token, so that none must be added.
  bool writes_bos() const { return writes_bos_; }
  // Whether a rendered conversation ends inside an open `<think>` tag.
  bool opens_reasoning() const { return opens_reasoning_; }
  // How to split the answer to `prompt`, which this template rendered.
  ReasoningMode reasoning_mode(std::string_view prompt) const;

  const ToolSupport& tool_support() const { return tool_support_; }

  const std::string& source() const { return source_; }
  // False where the file had no template and ChatML stands in.
  bool is_from_file() const { return is_from_file_; }

 private:
  ChatTemplate() = default;
  static std::shared_ptr<ChatTemplate> compile(std::string_view source, std::string_view bos_token,
                                               std::string_view eos_token);
  void probe();
  void probe_tools();

  tk_template* handle_ = nullptr;  // owned
  std::string source_;
  std::string bos_token_;
  std::string eos_token_;
  bool is_from_file_ = false;
  bool writes_bos_ = false;
  bool opens_reasoning_ = false;
  ToolSupport tool_support_;
};

// Whether `prompt` ends inside an open `<think>` tag, white space aside.
bool ends_in_open_reasoning(std::string_view prompt);

}  // namespace ridge::text
