#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "api/answer.h"
#include "api/chat_request.h"
#include "api/json_text.h"
#include "api/logprobs_json.h"
#include "api/openai_form.h"
#include "api/random_id.h"
#include "api/usage_json.h"
#include "base/error.h"

namespace ridge::api {
namespace {

// Both names that clients look for (vLLM and DeepSeek's own service differ).
void append_reasoning(std::string& out, std::string_view reasoning) {
  std::string text;
  append_json_string(text, reasoning);
  fmt::format_to(std::back_inserter(out), "\"reasoning_content\":{},\"reasoning\":{}", text, text);
}

// A call's first event has its name, those behind it pieces of its arguments.
void append_call_head(std::string& out, const text::ToolCallPiece& piece) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"index\":{},\"id\":\"{}\",\"type\":\"function\",\"function\":{{\"name\":",
                 piece.index, random_id("call_"));
  append_json_string(out, piece.name);
  out += ",\"arguments\":\"\"}}";
}

void append_call_arguments(std::string& out, const text::ToolCallPiece& piece) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"index\":{},\"function\":{{\"arguments\":", piece.index);
  append_json_string(out, piece.arguments);
  out += "}}";
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
    auto next = delta.pieces.begin();
    const auto* content = next == delta.pieces.end() ? nullptr : std::get_if<std::string>(&*next);
    if (content != nullptr) ++next;
    const bool has_tokens = with_logprobs_ && !delta.tokens.empty();
    if (content != nullptr || !delta.reasoning.empty() || has_tokens) {
      add_text(choice, delta.reasoning, content != nullptr ? *content : std::string_view(),
               has_tokens ? std::span(delta.tokens) : std::span<const engine::TokenInfo>(), out);
    }
    for (; next != delta.pieces.end(); ++next) add_piece(choice, *next, out);
  }

  void finish_choice(int choice, engine::FinishReason reason, std::string& out) override {
    open_choice(out, choice);
    close_choice(out, {}, openai_finish_reason(reason));
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    append_stream_end(out, opening_, include_usage_, usage);
  }

 private:
  void add_text(int choice, std::string_view reasoning, std::string_view content,
                std::span<const engine::TokenInfo> tokens, std::string& out) const {
    open_choice(out, choice);
    if (!reasoning.empty()) append_reasoning(out, reasoning);
    if (!content.empty() || reasoning.empty()) {
      if (!reasoning.empty()) out += ',';
      out += "\"content\":";
      append_json_string(out, content);
    }
    close_choice(out, tokens, {});
  }

  void add_piece(int choice, const text::AnswerPiece& next, std::string& out) const {
    if (const auto* content = std::get_if<std::string>(&next)) {
      add_text(choice, {}, *content, {}, out);
      return;
    }
    const auto& piece = std::get<text::ToolCallPiece>(next);
    if (piece.begins) add_call(choice, piece, append_call_head, out);
    if (!piece.arguments.empty()) add_call(choice, piece, append_call_arguments, out);
  }

  template <typename Append>
  void add_call(int choice, const text::ToolCallPiece& piece, Append append,
                std::string& out) const {
    open_choice(out, choice);
    out += "\"tool_calls\":[";
    append(out, piece);
    out += ']';
    close_choice(out, {}, {});
  }

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
    out += '}';
    out += event_closing(include_usage_);
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
    to.content += delta.pieces.content();
    for (const text::ToolCallPiece& piece : delta.pieces.calls()) {
      if (piece.begins) to.calls.push_back({piece.name, {}});
      RIDGE_ASSERT(!to.calls.empty());
      to.calls.back().arguments += piece.arguments;
    }
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
  struct Call {
    std::string name, arguments;
  };
  struct Choice {
    std::string reasoning, content;
    std::vector<Call> calls;
    std::string logprobs;  // elements, separated by commas
    engine::FinishReason reason = engine::FinishReason::stop;
  };

  static void append_calls(std::string& out, std::span<const Call> calls) {
    if (calls.empty()) return;
    out += ",\"tool_calls\":[";
    for (const Call& call : calls) {
      if (&call != &calls.front()) out += ',';
      fmt::format_to(
          std::back_inserter(out),
          "{{\"id\":\"{}\",\"type\":\"function\",\"function\":{{\"name\":", random_id("call_"));
      append_json_string(out, call.name);
      out += ",\"arguments\":";
      append_json_string(out, call.arguments);
      out += "}}";
    }
    out += ']';
  }

  void append_choice(std::string& out, std::size_t index) const {
    const Choice& choice = choices_[index];
    if (index > 0) out += ',';
    fmt::format_to(std::back_inserter(out),
                   "{{\"index\":{},\"message\":{{\"role\":\"assistant\",\"content\":", index);
    // An answer that ended while it reasoned has no content, as vLLM's reasoning parsers say it.
    if (choice.content.empty() && (!choice.reasoning.empty() || !choice.calls.empty())) {
      out += "null";
    } else {
      append_json_string(out, choice.content);
    }
    out += ",\"refusal\":null";
    if (!choice.reasoning.empty()) {
      out += ',';
      append_reasoning(out, choice.reasoning);
    }
    append_calls(out, choice.calls);
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
