#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "api/answer.h"
#include "api/chat_request.h"
#include "api/json_text.h"
#include "api/logprobs_json.h"
#include "api/usage_json.h"

namespace ridge::api {
namespace {

std::string open_document(const AnswerHead& head, std::string_view object) {
  std::string out = "{\"id\":";
  append_json_string(out, head.id);
  fmt::format_to(std::back_inserter(out), ",\"object\":\"{}\",\"created\":{},\"model\":", object,
                 head.created_s);
  append_json_string(out, head.model);
  out += ",\"system_fingerprint\":";
  append_json_string(out, head.fingerprint);
  return out;
}

// Both names that clients look for (vLLM and DeepSeek's own service differ).
void append_reasoning(std::string& out, std::string_view reasoning) {
  std::string text;
  append_json_string(text, reasoning);
  fmt::format_to(std::back_inserter(out), "\"reasoning_content\":{},\"reasoning\":{}", text, text);
}

class ChatStream final : public Answer {
 public:
  ChatStream(const ChatRequest& request, const AnswerHead& head)
      : choices_(request.generation.choices),
        include_usage_(request.generation.include_usage),
        with_logprobs_(request.top_logprobs >= 0),
        opening_("data: " + open_document(head, "chat.completion.chunk")) {}

  bool streams() const override { return true; }

  void begin(std::string& out) override {
    for (int choice = 0; choice < choices_; ++choice) {
      open_choice(out, choice);
      out += "\"role\":\"assistant\",\"content\":\"\"";
      close_choice(out, {}, {});
    }
  }

  void add(int choice, const engine::Delta& delta, std::string& out) override {
    const bool has_tokens = with_logprobs_ && !delta.tokens.empty();
    if (delta.content.empty() && delta.reasoning.empty() && !has_tokens) return;
    open_choice(out, choice);
    if (!delta.reasoning.empty()) append_reasoning(out, delta.reasoning);
    if (!delta.content.empty() || delta.reasoning.empty()) {
      if (!delta.reasoning.empty()) out += ',';
      out += "\"content\":";
      append_json_string(out, delta.content);
    }
    close_choice(out, has_tokens ? std::span(delta.tokens) : std::span<const engine::TokenInfo>(),
                 {});
  }

  void finish_choice(int choice, engine::FinishReason reason, std::string& out) override {
    open_choice(out, choice);
    close_choice(out, {}, openai_finish_reason(reason));
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    if (include_usage_) {
      out += opening_;
      out += ",\"choices\":[],\"usage\":";
      append_usage(out, usage);
      out += "}\n\n";
    }
    out += done_event;
  }

 private:
  void open_choice(std::string& out, int choice) const {
    out += opening_;
    fmt::format_to(std::back_inserter(out), ",\"choices\":[{{\"index\":{},\"delta\":{{", choice);
  }

  void close_choice(std::string& out, std::span<const engine::TokenInfo> tokens,
                    std::string_view finish_reason) const {
    if (tokens.empty()) {
      out += "},\"logprobs\":null,\"finish_reason\":";
    } else {
      out += "},\"logprobs\":{\"content\":[";
      append_chat_logprobs(out, tokens);
      out += "],\"refusal\":null},\"finish_reason\":";
    }
    if (finish_reason.empty()) {
      out += "null";
    } else {
      append_json_string(out, finish_reason);
    }
    out += include_usage_ ? "}],\"usage\":null}\n\n" : "}]}\n\n";
  }

  const int choices_;
  const bool include_usage_;
  const bool with_logprobs_;
  const std::string opening_;  // of each event, up to `choices`
};

class ChatDocument final : public Answer {
 public:
  ChatDocument(const ChatRequest& request, const AnswerHead& head)
      : with_logprobs_(request.top_logprobs >= 0),
        opening_(open_document(head, "chat.completion")),
        choices_(static_cast<std::size_t>(request.generation.choices)) {}

  bool streams() const override { return false; }
  void begin(std::string&) override {}

  void add(int choice, const engine::Delta& delta, std::string&) override {
    Choice& to = choices_.at(static_cast<std::size_t>(choice));
    to.reasoning += delta.reasoning;
    to.content += delta.content;
    if (!with_logprobs_ || delta.tokens.empty()) return;
    if (!to.logprobs.empty()) to.logprobs += ',';
    append_chat_logprobs(to.logprobs, delta.tokens);
  }

  void finish_choice(int choice, engine::FinishReason reason, std::string&) override {
    choices_.at(static_cast<std::size_t>(choice)).reason = reason;
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    out += opening_;
    out += ",\"choices\":[";
    for (std::size_t i = 0; i < choices_.size(); ++i) append_choice(out, i);
    out += "],\"usage\":";
    append_usage(out, usage);
    out += '}';
  }

 private:
  struct Choice {
    std::string reasoning, content;
    std::string logprobs;  // elements, separated by commas
    engine::FinishReason reason = engine::FinishReason::stop;
  };

  void append_choice(std::string& out, std::size_t index) const {
    const Choice& choice = choices_[index];
    if (index > 0) out += ',';
    fmt::format_to(std::back_inserter(out),
                   "{{\"index\":{},\"message\":{{\"role\":\"assistant\",\"content\":", index);
    // An answer that ended while it reasoned has no content, as vLLM's reasoning parsers say it.
    if (choice.content.empty() && !choice.reasoning.empty()) {
      out += "null";
    } else {
      append_json_string(out, choice.content);
    }
    out += ",\"refusal\":null";
    if (!choice.reasoning.empty()) {
      out += ',';
      append_reasoning(out, choice.reasoning);
    }
    out += "},\"logprobs\":";
    out += with_logprobs_ ? fmt::format("{{\"content\":[{}],\"refusal\":null}}", choice.logprobs)
                          : "null";
    fmt::format_to(std::back_inserter(out), ",\"finish_reason\":\"{}\"}}",
                   openai_finish_reason(choice.reason));
  }

  const bool with_logprobs_;
  const std::string opening_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const ChatRequest& request, AnswerHead head) {
  if (request.generation.stream) return std::make_unique<ChatStream>(request, head);
  return std::make_unique<ChatDocument>(request, head);
}

}  // namespace ridge::api
