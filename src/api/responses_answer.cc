#include "api/responses_answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "api/error_body.h"
#include "api/logprobs_json.h"
#include "api/parted_answer.h"
#include "api/random_id.h"
#include "api/responses_events.h"

namespace ridge::api {
namespace {

class ResponsesAnswer final : public PartedAnswer {
 public:
  ResponsesAnswer(const ResponsesRequest& request, AnswerHead head,
                  const SamplingDefaults& defaults, std::function<void(StoredResponse&&)> keep)
      : head_(std::move(head)),
        streams_(request.chat.generation.stream),
        echo_(request.echo),
        temperature_(request.chat.generation.temperature.value_or(defaults.temperature)),
        top_p_(request.chat.generation.top_p.value_or(defaults.top_p)),
        input_(request.input),
        conversation_(request.conversation),
        keep_(std::move(keep)) {}

  bool streams() const override { return streams_; }

  void begin(std::string& out) override {
    if (streams_) events_.begin(out, response_with("in_progress", Json::array()));
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    const bool is_whole = reason() != engine::FinishReason::length;
    Json output = Json::array();
    for (const Part& part : parts()) {
      const bool is_cut = !is_whole && part.index + 1 == parts().size();
      output.push_back(item_of(part, part.text, is_cut ? "incomplete" : "completed"));
    }
    Json response = response_with(is_whole ? "completed" : "incomplete", std::move(output));
    if (is_whole) {
      response["completed_at"] = head_.created_s + static_cast<int64_t>(usage.duration_ms / 1000);
    } else {
      response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    }
    response["usage"] = usage_of(usage);
    keep(response, conversation_after());
    if (streams_) {
      events_.end(out, response);
    } else {
      out += to_text(response);
    }
  }

  // A client that heard of a response may ask for it, also where it failed; what is said next goes
  // on without its answer.
  void fail(const Error& error, std::string_view request_id, std::string& out) override {
    Json output = Json::array();
    for (const Part& part : parts()) output.push_back(item_of(part, part.text, "incomplete"));
    Json response = response_with("failed", std::move(output));
    response["error"] = {
        {"code", error.code() == ErrorCode::queue_full ? "rate_limit_exceeded" : "server_error"},
        {"message", public_message(error, request_id)}};
    keep(response, conversation_);
    events_.end(out, response);
  }

 private:
  void keep(const Json& response, const Json& conversation) {
    if (keep_) keep_({head_.id, to_text(response), std::move(input_), to_text(conversation)});
  }

  void open_part(Part& part, std::string& out) override {
    constexpr std::string_view prefixes[] = {"rs_", "msg_", "fc_"};
    part.id = random_id(prefixes[static_cast<std::size_t>(part.kind)]);
    if (part.kind == Kind::call) part.call_id = random_id("call_");
    if (streams_) events_.open(out, part.index, item_of(part, "", "in_progress"));
  }

  void extend_part(Part& part, std::string_view piece, std::span<const engine::TokenInfo> tokens,
                   std::string& out) override {
    std::string logprobs;
    if (part.kind == Kind::text) append_chat_logprobs(logprobs, tokens);
    if (!logprobs.empty()) {
      if (!part.logprobs.empty()) part.logprobs += ',';
      part.logprobs += logprobs;
    }
    if (!streams_) return;
    events_.extend(out, {.type = type_of(part), .id = part.id, .index = part.index}, piece,
                   Json::parse("[" + logprobs + "]"));
  }

  void close_part(const Part& part, std::string& out) override {
    if (!streams_) return;
    // Only the last part of an answer is closed by its end.
    const bool is_cut = reason() == engine::FinishReason::length;
    events_.close(out, part.index, item_of(part, part.text, is_cut ? "incomplete" : "completed"));
  }

  static std::string_view type_of(const Part& part) {
    constexpr std::string_view types[] = {"reasoning", "message", "function_call"};
    return types[static_cast<std::size_t>(part.kind)];
  }

  // `text` is empty where a stream only begins the item.
  static Json item_of(const Part& part, const std::string& text, std::string_view status) {
    Json content = Json::array();
    if (!text.empty() && part.kind != Kind::call) {
      content.push_back(
          response_content(type_of(part), text, Json::parse("[" + part.logprobs + "]")));
    }
    switch (part.kind) {
      case Kind::reasoning:
        return {{"id", part.id},
                {"type", "reasoning"},
                {"summary", Json::array()},
                {"content", content},
                {"status", status}};
      case Kind::call:
        return {{"id", part.id},     {"type", "function_call"}, {"call_id", part.call_id},
                {"name", part.name}, {"arguments", text},       {"status", status}};
      case Kind::text:
        break;
    }
    return {{"id", part.id},
            {"type", "message"},
            {"role", "assistant"},
            {"content", content},
            {"status", status}};
  }

  Json response_with(std::string_view status, Json output) const {
    Json response = {{"id", head_.id},
                     {"object", "response"},
                     {"created_at", head_.created_s},
                     {"status", status},
                     {"background", false},
                     {"error", nullptr},
                     {"incomplete_details", nullptr},
                     {"model", head_.model},
                     {"output", std::move(output)},
                     {"temperature", temperature_},
                     {"top_p", top_p_},
                     {"usage", nullptr}};
    response.update(echo_);
    return response;
  }

  static Json usage_of(const engine::Usage& usage) {
    return {{"input_tokens", usage.prompt_tokens},
            {"input_tokens_details",
             {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
            {"output_tokens", usage.completion_tokens},
            {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
            {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
  }

  // With this answer, in the form of ChatRequest::messages; thoughts are not fed back.
  Json conversation_after() const {
    std::string text;
    Json calls = Json::array();
    for (const Part& part : parts()) {
      if (part.kind == Kind::text) text += part.text;
      if (part.kind != Kind::call) continue;
      const std::string& arguments = part.text.empty() ? "{}" : part.text;
      calls.push_back({{"id", part.call_id},
                       {"type", "function"},
                       {"function", {{"name", part.name}, {"arguments", arguments}}}});
    }
    Json message = {{"role", "assistant"}, {"content", text}};
    if (!calls.empty()) {
      if (text.empty()) message["content"] = nullptr;
      message["tool_calls"] = std::move(calls);
    }
    Json conversation = conversation_;
    conversation.push_back(std::move(message));
    return conversation;
  }

  const AnswerHead head_;
  const bool streams_;
  const Json echo_;
  const double temperature_, top_p_;
  std::vector<std::string> input_;
  const Json conversation_;
  const std::function<void(StoredResponse&&)> keep_;
  ResponseEvents events_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const ResponsesRequest& request, AnswerHead head,
                                    const SamplingDefaults& defaults,
                                    std::function<void(StoredResponse&&)> keep) {
  return std::make_unique<ResponsesAnswer>(request, std::move(head), defaults, std::move(keep));
}

std::string response_tokens_body(int tokens) {
  return to_text({{"object", "response.input_tokens"}, {"input_tokens", tokens}});
}

}  // namespace ridge::api
