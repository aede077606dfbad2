#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "api/answer.h"
#include "api/completion_request.h"
#include "api/json_text.h"
#include "api/logprobs_json.h"
#include "api/openai_form.h"
#include "api/usage_json.h"

namespace ridge::api {
namespace {

// Streams and documents share their name in this endpoint.
constexpr std::string_view object_name = "text_completion";

std::size_t choices_of(const CompletionRequest& request) {
  return request.prompts.size() * static_cast<std::size_t>(request.generation.choices);
}

// `logprobs` may be nullptr.
void append_choice(std::string& out, std::size_t index, std::string_view text,
                   CompletionLogprobs* logprobs, std::string_view finish_reason) {
  fmt::format_to(std::back_inserter(out), "{{\"index\":{},\"text\":", index);
  append_json_string(out, text);
  out += ",\"logprobs\":";
  if (logprobs == nullptr) {
    out += "null";
  } else {
    logprobs->append_and_clear(out);
  }
  out += ",\"finish_reason\":";
  out += finish_reason.empty() ? "null" : fmt::format("\"{}\"", finish_reason);
  out += '}';
}

class CompletionStream final : public Answer {
 public:
  CompletionStream(const CompletionRequest& request, const AnswerHead& head,
                   std::vector<EchoedPrompt> echoes)
      : include_usage_(request.generation.include_usage),
        with_logprobs_(request.top_logprobs >= 0),
        choices_per_prompt_(request.generation.choices),
        opening_("data: " + open_document(head, object_name)),
        echoes_(std::move(echoes)),
        logprobs_(choices_of(request)) {}

  bool streams() const override { return true; }

  // With logprobs, a prompt is sent once it is scored.
  void begin(std::string& out) override {
    if (with_logprobs_) return;
    for (std::size_t i = 0; i < echoes_.size(); ++i) {
      const int first_choice = static_cast<int>(i) * choices_per_prompt_;
      for (int n = 0; n < choices_per_prompt_; ++n) {
        append_event(out, first_choice + n, echoes_[i].text, nullptr, {});
      }
    }
  }

  void add_prompt(int first_choice, std::span<const engine::TokenInfo> tokens,
                  std::string& out) override {
    if (!with_logprobs_) return;
    const EchoedPrompt& echo = echoes_.at(static_cast<std::size_t>(first_choice) /
                                          static_cast<std::size_t>(choices_per_prompt_));
    const auto prompt = std::make_shared<const CompletionLogprobs>(echo.text, echo.first, tokens);
    for (int choice = first_choice; choice < first_choice + choices_per_prompt_; ++choice) {
      CompletionLogprobs& logprobs = logprobs_.at(static_cast<std::size_t>(choice));
      logprobs.begin_with(prompt);
      append_event(out, choice, echo.text, &logprobs, {});
    }
  }

  void add(int choice, const engine::Delta& delta, std::string& out) override {
    const std::string text = delta.reasoning + delta.pieces.content();
    CompletionLogprobs& logprobs = logprobs_.at(static_cast<std::size_t>(choice));
    if (with_logprobs_) logprobs.add(delta.tokens);
    if (text.empty() && logprobs.empty()) return;
    append_event(out, choice, text, logprobs.empty() ? nullptr : &logprobs, {});
  }

  void finish_choice(int choice, engine::FinishReason reason, std::string& out) override {
    append_event(out, choice, {}, nullptr, openai_finish_reason(reason));
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    append_stream_end(out, opening_, include_usage_, usage);
  }

 private:
  void append_event(std::string& out, int choice, std::string_view text,
                    CompletionLogprobs* logprobs, std::string_view finish_reason) const {
    out += opening_;
    out += ",\"choices\":[";
    append_choice(out, static_cast<std::size_t>(choice), text, logprobs, finish_reason);
    out += event_closing(include_usage_);
  }

  const bool include_usage_;
  const bool with_logprobs_;
  const int choices_per_prompt_;
  const std::string opening_;
  const std::vector<EchoedPrompt> echoes_;    // for each prompt, or none
  std::vector<CompletionLogprobs> logprobs_;  // for each choice
};

class CompletionDocument final : public Answer {
 public:
  CompletionDocument(const CompletionRequest& request, const AnswerHead& head,
                     std::vector<EchoedPrompt> echoes)
      : with_logprobs_(request.top_logprobs >= 0),
        choices_per_prompt_(static_cast<std::size_t>(request.generation.choices)),
        opening_(open_document(head, object_name)),
        echoes_(std::move(echoes)),
        choices_(choices_of(request)) {}

  bool streams() const override { return false; }

  void begin(std::string&) override {
    for (std::size_t i = 0; i < echoes_.size() * choices_per_prompt_; ++i) {
      choices_[i].text = echoes_[i / choices_per_prompt_].text;
    }
  }

  void add_prompt(int first_choice, std::span<const engine::TokenInfo> tokens,
                  std::string&) override {
    if (!with_logprobs_) return;
    const auto first = static_cast<std::size_t>(first_choice);
    const EchoedPrompt& echo = echoes_.at(first / choices_per_prompt_);
    const auto prompt = std::make_shared<const CompletionLogprobs>(echo.text, echo.first, tokens);
    for (std::size_t i = first; i < first + choices_per_prompt_; ++i) {
      choices_.at(i).logprobs.begin_with(prompt);
    }
  }

  void add(int choice, const engine::Delta& delta, std::string&) override {
    Choice& to = choices_.at(static_cast<std::size_t>(choice));
    to.text += delta.reasoning;
    to.text += delta.pieces.content();
    if (with_logprobs_) to.logprobs.add(delta.tokens);
  }

  void finish_choice(int choice, engine::FinishReason reason, std::string&) override {
    choices_.at(static_cast<std::size_t>(choice)).reason = reason;
  }

  void finish(const engine::Usage& usage, std::string& out) override {
    out += opening_;
    out += ",\"choices\":[";
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      if (i > 0) out += ',';
      append_choice(out, i, choice.text, with_logprobs_ ? &choice.logprobs : nullptr,
                    openai_finish_reason(choice.reason));
    }
    out += "],\"usage\":";
    append_usage(out, usage);
    out += '}';
  }

 private:
  struct Choice {
    std::string text;
    CompletionLogprobs logprobs;
    engine::FinishReason reason = engine::FinishReason::stop;
  };

  const bool with_logprobs_;
  const std::size_t choices_per_prompt_;
  const std::string opening_;
  const std::vector<EchoedPrompt> echoes_;  // for each prompt, or none
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<Answer> make_answer(const CompletionRequest& request, AnswerHead head,
                                    std::vector<EchoedPrompt> echoes) {
  if (request.generation.stream) {
    return std::make_unique<CompletionStream>(request, head, std::move(echoes));
  }
  return std::make_unique<CompletionDocument>(request, head, std::move(echoes));
}

}  // namespace ridge::api
