#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "sampling/sampler.h"
#include "text/grammar.h"
#include "text/harmony.h"
#include "text/reasoning.h"
#include "text/tool_calls.h"

namespace ridge::engine {

text::ReasoningMode reasoning_mode(const Request& request);

// What the next token of one choice may be: the grammar that its content follows, calls of tools
// that must fit their schemas, an end of the thinking that is due, an answer that may not end yet.
//
// It follows the text as the model writes it, token by token, because what the client sees lags
// behind: a possible stop sequence is held back.
class Steering {
 public:
  Steering(const Request& request, std::shared_ptr<const text::Tokenizer> tokenizer);

  // As Answer. Throw where the grammar fails: no token may then be picked.
  sampling::Constraints constraints();
  int admissible(std::span<const int32_t> draft);
  // Of which the constraints of the next token need the mask, which may be asked for elsewhere
  // before; nullptr where they need none.
  std::shared_ptr<text::GrammarMatcher> matcher_to_ask();

  // The answer goes on with `token`, which completes `text`; `is_mid_character` where a character
  // is unfinished. Returns whether the answer is over, because the token ends it.
  bool take(int32_t token, std::string_view text, bool is_mid_character);
  // Ends the thinking as soon as it can be; none may begin any more.
  void end_thinking() { ends_thinking_ = true; }

  int reasoning_tokens() const { return reasoning_tokens_; }
  // Newlines between the reasoning and the first token of the grammar, once that has come: those
  // that follow are content.
  std::optional<std::size_t> newlines_before_grammar() const { return newlines_before_grammar_; }

 private:
  bool must_go_on() const { return tokens_ < min_tokens_ && !ignore_eos_; }
  bool is_end(int32_t token) const;
  void close_thinking_if_due();
  sampling::Constraints only(int32_t token);
  sampling::Constraints under_grammar();
  bool allows_more_than_ends(std::span<const uint32_t> mask) const;
  void allow(std::optional<int32_t> token);
  bool is_before_grammar() const {
    return may_open_thinking_ || may_break_line_ || may_analyse_ || chooses_channel_;
  }
  void take_content(int32_t token);
  void begin_grammar(std::string_view text);
  void follow(const text::Grammar& grammar);
  void follow_calls(std::string_view content);

  // Of answers in harmony.
  bool takes_turn_in_messages(int32_t token, std::string_view text);
  void begin_answering_message();
  void end_forced_head();
  void take_channel(std::string_view name, bool with_message);
  void follow_messages(bool was_thinking);
  bool in_reasoning() const {
    return messages_ ? messages_->place() == text::HarmonyParser::Place::reasoning
                     : splitter_.in_reasoning();
  }
  bool is_thinking_spent() const {
    return ends_thinking_ || (thinking_budget_ && reasoning_tokens_ >= *thinking_budget_);
  }
  std::vector<int32_t> encode(std::string_view text) const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  const std::shared_ptr<const text::Grammar> grammar_;       // of the content; may be null
  const std::shared_ptr<const text::Grammar> call_grammar_;  // of each call; may be null
  const text::ToolStyle tool_style_;
  const int min_tokens_;
  const bool ignore_eos_;
  const std::optional<int> thinking_budget_;
  const std::optional<int32_t> think_open_, think_close_;  // where they are tokens
  const std::optional<int32_t> message_end_, message_start_, message_text_;  // harmony's

  text::ReasoningSplitter splitter_;
  std::optional<text::ToolCallParser> calls_;    // where a call has a grammar
  std::shared_ptr<text::GrammarMatcher> matcher_;  // where one is followed now
  std::vector<uint32_t> mask_;      // of the last constraints, where they are not the matcher's
  std::vector<int32_t> forced_;     // the next tokens, the last one first
  std::optional<text::HarmonyParser> messages_;  // in place of splitter_ and calls_
  const bool may_call_;
  // What follows the forced head of a message, which ends with its <|channel|>.
  enum class AfterHead : uint8_t { nothing, grammar, channel } after_head_ = AfterHead::nothing;
  int followed_calls_ = 0;        // that have met their grammar
  bool chooses_channel_ = false;  // the next token begins the name of an answer's channel
  bool may_analyse_ = false;      // … or of analysis, instead of the grammar's
  bool may_open_thinking_ = false;  // the first token may be <think>, instead of the grammar's
  bool may_break_line_ = false;     // a line break may stand between the thinking and the grammar
  bool ends_thinking_ = false;
  bool is_mid_character_ = false;
  bool ends_in_newline_ = false;
  int tokens_ = 0;
  int reasoning_tokens_ = 0;
  int tokens_mid_character_ = 0;  // one after the other
  std::optional<std::size_t> newlines_before_grammar_;
};

}  // namespace ridge::engine
