#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/trimmed.h"
#include "format/gguf.h"
#include "text/qwen3_coder.h"
#include "text/textkit_call.h"
#include "text/tokenizer.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

constexpr int max_depth = 64;

constexpr std::string_view reserved_names[] = {"messages",  "tools",     "documents",
                                               "bos_token", "eos_token", "add_generation_prompt"};

std::string_view without_trailing_space(std::string_view text) {
  return text.substr(0, text.find_last_not_of(white_space) + 1);
}

void check_depth(const ordered_json& value, std::string_view what, int levels_left) {
  if (!value.is_structured()) return;
  if (levels_left == 0) {
    throw Error(ErrorCode::invalid_argument, std::string(what) + " nests more than " +
                                                 std::to_string(max_depth) + " levels deep");
  }
  for (const ordered_json& item : value) check_depth(item, what, levels_left - 1);
}

// Deep values are refused first, because writing them out recurses.
std::string to_text(const ordered_json& value, std::string_view what) {
  check_depth(value, what, max_depth);
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::invalid_argument, std::string(what) + " is not valid UTF-8");
  }
}

void append_field(std::string& object, std::string_view name, std::string_view json) {
  if (object.size() > 1) object += ',';
  object.append(ordered_json(name).dump()).append(":").append(json);
}

void append_variables(std::string& object, const ordered_json& variables) {
  if (!variables.is_object()) {
    throw Error(ErrorCode::invalid_argument, "template variables must be an object",
                "chat_template_kwargs");
  }
  for (const auto& [name, value] : variables.items()) {
    if (std::ranges::find(reserved_names, name) != std::end(reserved_names)) {
      throw Error(ErrorCode::invalid_argument, "the template variable `" + name + "` is reserved",
                  "chat_template_kwargs");
    }
    append_field(object, name, to_text(value, "a template variable"));
  }
}

int64_t now_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace

std::string_view ChatTemplate::chatml_source() {
  return "{{ bos_token }}{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
}

std::shared_ptr<const ChatTemplate> ChatTemplate::from_gguf(const format::GgufFile& file,
                                                            const Tokenizer& tokenizer) {
  const auto spelling = [&](std::optional<int32_t> id) {
    return id ? tokenizer.token_bytes(*id) : std::string_view();
  };
  const auto source = file.metadata().optional_string("tokenizer.chat_template");
  if (!source || source->empty()) {
    // A model that wants BOS gets it here too, since prompts are encoded without one.
    return from_source(chatml_source(), tokenizer.adds_bos() ? spelling(tokenizer.bos()) : "",
                       spelling(tokenizer.eos()));
  }
  std::shared_ptr<ChatTemplate> result;
  try {
    result = compile(*source, spelling(tokenizer.bos()), spelling(tokenizer.eos()));
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_file,
                "tokenizer.chat_template: " + std::string(error.message()));
  }
  result->is_from_file_ = true;
  return result;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::from_source(std::string_view source,
                                                              std::string_view bos_token,
                                                              std::string_view eos_token) {
  return compile(source, bos_token, eos_token);
}

std::shared_ptr<ChatTemplate> ChatTemplate::compile(std::string_view source,
                                                    std::string_view bos_token,
                                                    std::string_view eos_token) {
  std::shared_ptr<ChatTemplate> result(new ChatTemplate());
  result->source_ = source;
  result->bos_token_ = bos_token;
  result->eos_token_ = eos_token;
  TextkitBuffer error;
  check_textkit(tk_template_new(to_slice(source), &result->handle_, error.out()), error);
  result->probe();
  return result;
}

ChatTemplate::~ChatTemplate() { tk_template_free(handle_); }

// Learns from a short conversation what every prompt of this template begins and ends with.
void ChatTemplate::probe() {
  try {
    const ordered_json messages = {{{"role", "user"}, {"content", "x"}}};
    const std::string prompt = render(messages);
    writes_bos_ = !bos_token_.empty() && prompt.starts_with(bos_token_);
    opens_reasoning_ = ends_in_open_reasoning(prompt);
  } catch (const Error&) {
    // Such a template wants another conversation; the caller hears of it when it renders one.
  }
  probe_tools();
}

// Looks for each part of a conversation with tools in what the template makes of it: the sources of
// templates are too different to be searched.
void ChatTemplate::probe_tools() {
  const ordered_json user = {{"role", "user"}, {"content", "x"}};
  const auto call_with = [](ordered_json arguments) {
    ordered_json function = {{"name", "probed_call"}, {"arguments", std::move(arguments)}};
    ordered_json call = {{"id", "call_123ab"}, {"type", "function"}, {"function", function}};
    return ordered_json{
        {"role", "assistant"}, {"content", nullptr}, {"tool_calls", ordered_json::array({call})}};
  };
  const ordered_json result = {{"role", "tool"},
                               {"tool_call_id", "call_123ab"},
                               {"name", "probed_call"},
                               {"content", "probed result"}};
  const auto rendered = [&](const ordered_json& messages, const RenderOptions& options = {}) {
    try {
      return render(messages, options);
    } catch (const Error&) {
      return std::string();
    }
  };
  const auto contains = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  const ordered_json function = {
      {"name", "probed_tool"}, {"description", "d"}, {"parameters", {{"type", "object"}}}};
  const auto tools =
      ordered_json::array({ordered_json{{"type", "function"}, {"function", function}}});
  const std::string with_tools = rendered(ordered_json::array({user}), {.tools = &tools});
  tool_support_.tools = contains(with_tools, "probed_tool");

  const ordered_json objects = call_with(ordered_json::object({{"probe", 1}}));
  const ordered_json strings = call_with("{\"probe\": 1}");
  const auto shows_call = [&](const std::string& text) {
    return contains(text, "probed_call") &&
           (contains(text, "{\"probe\": 1}") || contains(text, "{\"probe\":1}") ||
            contains(text,
                     fmt::format("{}probe{}", qwen3_coder::parameter_open, qwen3_coder::name_end)));
  };
  const bool takes_objects = shows_call(rendered({user, objects, result}));
  const bool takes_strings = shows_call(rendered({user, strings, result}));
  tool_support_.calls = takes_objects || takes_strings;
  tool_support_.argument_objects = takes_objects || !takes_strings;
  const std::string with_result = rendered({user, takes_objects ? objects : strings, result});
  tool_support_.results = contains(with_result, "probed result");
}

std::string ChatTemplate::render(const ordered_json& messages, const RenderOptions& options) const {
  if (!messages.is_array()) {
    throw Error(ErrorCode::invalid_argument, "messages must be an array", "messages");
  }
  std::string context = "{";
  append_field(context, "messages", to_text(messages, "messages"));
  append_field(context, "tools", options.tools ? to_text(*options.tools, "tools") : "null");
  append_field(context, "documents", "null");
  append_field(context, "add_generation_prompt", options.add_generation_prompt ? "true" : "false");
  append_field(context, "bos_token", to_text(bos_token_, "the BOS token"));
  append_field(context, "eos_token", to_text(eos_token_, "the EOS token"));
  if (options.variables) append_variables(context, *options.variables);
  context += '}';

  TextkitBuffer prompt;
  TextkitBuffer error;
  check_textkit(tk_template_render(handle_, to_slice(context),
                                   options.now_unix_seconds.value_or(now_seconds()), prompt.out(),
                                   error.out()),
                error);
  return std::string(prompt.view());
}

ReasoningMode ChatTemplate::reasoning_mode(std::string_view prompt) const {
  if (ends_in_open_reasoning(prompt)) return ReasoningMode::starts_inside;
  const bool mentions_reasoning = source_.find(think_close_tag) != std::string::npos;
  // A template that closes the tag itself has switched reasoning off for this answer.
  if (!mentions_reasoning || without_trailing_space(prompt).ends_with(think_close_tag)) {
    return ReasoningMode::none;
  }
  // Older templates of R1 and its distills leave the opening tag to the model.
  const bool is_r1 = source_.find("<｜Assistant｜>") != std::string::npos;
  return is_r1 ? ReasoningMode::starts_inside : ReasoningMode::optional;
}

bool ends_in_open_reasoning(std::string_view prompt) {
  return without_trailing_space(prompt).ends_with(think_open_tag);
}

}  // namespace ridge::text
