#include "api/anthropic_answer.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "api/error_body.h"
#include "api/parted_answer.h"
#include "api/random_id.h"

namespace ridge::api {
namespace {

// Thoughts are not checked when they come back, but clients want something to send back.
constexpr std::string_view signature = "unsigned";

void append_event(std::string& out, std::string_view name, std::string_view members) {
  fmt::format_to(std::back_inserter(out), "event: {0}\ndata: {{\"type\":\"{0}\"{1}}}\n\n", name,
                 members);
}

class AnthropicAnswer final : public PartedAnswer {
 public:
  AnthropicAnswer(const AnthropicRequest& request, AnswerHead head)
      : head_(std::move(head)),
        streams_(request.chat.generation.stream),
        hides_thinking_(request.hides_thinking) {}

  bool streams() const override { return streams_; }
  std::string_view heartbeat() const override {
    return "event: ping\ndata: {\"type\":\"ping\"}\n\n";
  }

  void begin(std::string& out) override {
    if (!streams_) return;
    const Json message = message_with(Json::array(), nullptr, nullptr,
                                      usage_of({.prompt_tokens = head_.prompt_tokens}));
    append_event(out, "message_start", ",\"message\":" + to_text(message));
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    const Json stop = reason() == engine::FinishReason::stop && !stop_sequence().empty()
                          ? Json(stop_sequence())
                          : Json(nullptr);
    if (streams_) {
      const Json delta = {{"stop_reason", stop_reason()}, {"stop_sequence", stop}};
      append_event(
          out, "message_delta",
          fmt::format(",\"delta\":{},\"usage\":{}", to_text(delta), to_text(usage_of(usage))));
      append_event(out, "message_stop", "");
      return;
    }
    Json content = Json::array();
    for (const Part& part : parts()) content.push_back(block_of(part, part.text));
    out += to_text(message_with(std::move(content), stop_reason(), stop, usage_of(usage)));
  }

  void fail(const Error& error, std::string_view request_id, std::string& out) override {
    fmt::format_to(std::back_inserter(out), "event: error\ndata: {}\n\n",
                   error_body(error, request_id, ErrorStyle::anthropic));
  }

 private:
  void open_part(Part& part, std::string& out) override {
    if (part.kind == Kind::call) part.id = random_id("toolu_");
    if (!streams_) return;
    append_event(
        out, "content_block_start",
        fmt::format(",\"index\":{},\"content_block\":{}", part.index, to_text(block_of(part, ""))));
  }

  void extend_part(Part& part, std::string_view piece, std::span<const engine::TokenInfo>,
                   std::string& out) override {
    if (!streams_ || (hides_thinking_ && part.kind == Kind::reasoning)) return;
    switch (part.kind) {
      case Kind::reasoning:
        append_delta(out, part, "thinking_delta", "thinking", piece);
        break;
      case Kind::text:
        append_delta(out, part, "text_delta", "text", piece);
        break;
      case Kind::call:
        append_delta(out, part, "input_json_delta", "partial_json", piece);
        break;
    }
  }

  void close_part(const Part& part, std::string& out) override {
    if (!streams_) return;
    if (part.kind == Kind::reasoning) {
      append_delta(out, part, "signature_delta", "signature", signature);
    }
    append_event(out, "content_block_stop", fmt::format(",\"index\":{}", part.index));
  }

  static void append_delta(std::string& out, const Part& part, std::string_view type,
                           std::string_view member, std::string_view piece) {
    std::string members =
        fmt::format(",\"index\":{},\"delta\":{{\"type\":\"{}\",\"{}\":", part.index, type, member);
    append_json_string(members, piece);
    members += '}';
    append_event(out, "content_block_delta", members);
  }

  // `text` is empty where a stream only begins the block.
  Json block_of(const Part& part, const std::string& text) const {
    switch (part.kind) {
      case Kind::reasoning:
        return {{"type", "thinking"},
                {"thinking", hides_thinking_ ? "" : text},
                {"signature", text.empty() ? "" : signature}};
      case Kind::call:
        return {{"type", "tool_use"},
                {"id", part.id},
                {"name", part.name},
                {"input", arguments_object(text)}};
      case Kind::text:
        break;
    }
    return {{"type", "text"}, {"text", text}};
  }

  Json message_with(Json content, Json stop_reason, Json stop_sequence, Json usage) const {
    return {{"id", head_.id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", head_.model},
            {"content", std::move(content)},
            {"stop_reason", std::move(stop_reason)},
            {"stop_sequence", std::move(stop_sequence)},
            {"usage", std::move(usage)}};
  }

  // Input tokens are those that no cache had, as in Anthropic's service: the three kinds of input
  // add up to the prompt.
  static Json usage_of(const engine::Usage& usage) {
    return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", usage.cached_tokens},
            {"output_tokens", usage.completion_tokens},
            {"output_tokens_details", {{"thinking_tokens", usage.reasoning_tokens}}}};
  }

  std::string stop_reason() const {
    switch (reason()) {
      case engine::FinishReason::tool_calls:
        return "tool_use";
      case engine::FinishReason::length:
        return "max_tokens";
      default:
        return stop_sequence().empty() ? "end_turn" : "stop_sequence";
    }
  }

  const AnswerHead head_;
  const bool streams_;
  const bool hides_thinking_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const AnthropicRequest& request, AnswerHead head) {
  return std::make_unique<AnthropicAnswer>(request, std::move(head));
}

}  // namespace ridge::api
