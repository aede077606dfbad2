#include "api/responses_answer.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/error_body.h"
#include "api/parted_answer.h"

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
    if (!streams_) return;
    const Json response = response_with("in_progress", Json::array());
    append_event(out, "response.created", {{"response", response}});
    append_event(out, "response.in_progress", {{"response", response}});
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
    if (keep_) keep_({head_.id, to_text(response), std::move(input_), conversation_after()});
    if (streams_) {
      append_event(out, is_whole ? "response.completed" : "response.incomplete",
                   {{"response", std::move(response)}});
    } else {
      out += to_text(response);
    }
  }

  void fail(const Error& error, std::string_view request_id, std::string& out) override {
    Json output = Json::array();
    for (const Part& part : parts()) output.push_back(item_of(part, part.text, "incomplete"));
    Json response = response_with("failed", std::move(output));
    response["error"] = {
        {"code", error.code() == ErrorCode::queue_full ? "rate_limit_exceeded" : "server_error"},
        {"message", public_message(error, request_id)}};
    append_event(out, "response.failed", {{"response", std::move(response)}});
  }

 private:
  void open_part(Part& part, std::string& out) override {
    constexpr std::string_view prefixes[] = {"rs_", "msg_", "fc_"};
    part.id = random_id(prefixes[static_cast<std::size_t>(part.kind)]);
    if (part.kind == Kind::call) part.call_id = random_id("call_");
    if (!streams_) return;
    append_event(out, "response.output_item.added",
                 {{"output_index", part.index}, {"item", item_of(part, "", "in_progress")}});
    if (part.kind == Kind::call) return;
    append_event(out, "response.content_part.added",
                 in_content(part, "part", content_of(part, "")));
  }

  void extend_part(const Part& part, std::string_view piece, std::string& out) override {
    if (!streams_) return;
    switch (part.kind) {
      case Kind::reasoning:
        append_event(out, "response.reasoning_text.delta", in_content(part, "delta", piece));
        break;
      case Kind::text: {
        Json members = in_content(part, "delta", piece);
        members["logprobs"] = Json::array();
        append_event(out, "response.output_text.delta", std::move(members));
        break;
      }
      case Kind::call:
        append_event(out, "response.function_call_arguments.delta", in_item(part, "delta", piece));
        break;
    }
  }

  void close_part(const Part& part, std::string& out) override {
    if (!streams_) return;
    switch (part.kind) {
      case Kind::reasoning:
        append_event(out, "response.reasoning_text.done", in_content(part, "text", part.text));
        break;
      case Kind::text: {
        Json members = in_content(part, "text", part.text);
        members["logprobs"] = Json::array();
        append_event(out, "response.output_text.done", std::move(members));
        break;
      }
      case Kind::call: {
        Json members = in_item(part, "arguments", part.text);
        members["name"] = part.name;
        append_event(out, "response.function_call_arguments.done", std::move(members));
        break;
      }
    }
    if (part.kind != Kind::call) {
      append_event(out, "response.content_part.done",
                   in_content(part, "part", content_of(part, part.text)));
    }
    // Only the last part of an answer is closed by its end.
    const bool is_cut = reason() == engine::FinishReason::length;
    append_event(out, "response.output_item.done",
                 {{"output_index", part.index},
                  {"item", item_of(part, part.text, is_cut ? "incomplete" : "completed")}});
  }

  void append_event(std::string& out, std::string_view type, Json members) {
    Json event = {{"type", type}, {"sequence_number", events_++}};
    event.update(members);
    fmt::format_to(std::back_inserter(out), "event: {}\ndata: {}\n\n", type, to_text(event));
  }

  static Json in_item(const Part& part, std::string_view name, Json value) {
    Json members = {{"item_id", part.id}, {"output_index", part.index}};
    members[std::string(name)] = std::move(value);
    return members;
  }

  static Json in_content(const Part& part, std::string_view name, Json value) {
    Json members = in_item(part, name, std::move(value));
    members["content_index"] = 0;
    return members;
  }

  static Json content_of(const Part& part, const std::string& text) {
    if (part.kind == Kind::reasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", Json::array()},
            {"logprobs", Json::array()}};
  }

  // `text` is empty where a stream only begins the item.
  static Json item_of(const Part& part, const std::string& text, std::string_view status) {
    const Json content = text.empty() ? Json::array() : Json::array({content_of(part, text)});
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
  std::string conversation_after() {
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
    conversation_.push_back(std::move(message));
    return to_text(conversation_);
  }

  const AnswerHead head_;
  const bool streams_;
  const Json echo_;
  const double temperature_, top_p_;
  std::vector<std::string> input_;
  Json conversation_;
  const std::function<void(StoredResponse&&)> keep_;
  int events_ = 0;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const ResponsesRequest& request, AnswerHead head,
                                    const SamplingDefaults& defaults,
                                    std::function<void(StoredResponse&&)> keep) {
  return std::make_unique<ResponsesAnswer>(request, std::move(head), defaults, std::move(keep));
}

}  // namespace ridge::api
