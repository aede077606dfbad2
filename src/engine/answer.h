#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "engine/request.h"
#include "engine/steering.h"
#include "sampling/sampler.h"
#include "text/detokenizer.h"
#include "text/harmony.h"
#include "text/reasoning.h"
#include "text/stop_sequences.h"
#include "text/tool_calls.h"

namespace ridge::engine {

// A pick and its alternatives with their bytes.
TokenInfo token_info(const sampling::Pick& pick, const text::Tokenizer& tokenizer);

// The tokens of one choice as they become text: detokenised, cut at stop sequences, split into
// reasoning, content and calls of tools, and counted.
class Answer {
 public:
  Answer(const Request& request, int choice, std::shared_ptr<const text::Tokenizer> tokenizer);

  // What the next pick may not choose. Ask again after each push; the spans live until then.
  // Throws where the answer cannot go on as it must; the request then ends as failed.
  sampling::Constraints constraints();
  // How many of the first tokens of `draft` could be picked one after the other: constraints()
  // would refuse the next. Changes nothing that can be seen.
  int admissible(std::span<const int32_t> draft);
  // Whose mask constraints() waits for; nullptr for none. Asking it for its mask before, on any
  // thread, spares that; until this is done, nothing else may be called but end_thinking and finish.
  std::shared_ptr<text::GrammarMatcher> matcher_to_ask() { return steering_.matcher_to_ask(); }

  // Takes the next token, which constraints() allowed. An end of generation gives no text.
  // Returns `stop` once the answer is over. Throws as constraints().
  std::optional<FinishReason> push(const sampling::Pick& pick);
  // Ends the text: what was held back as a possible stop sequence or tag belongs to it. Returns the
  // reason, which is tool_calls where the answer stopped after a call.
  FinishReason finish(FinishReason reason);
  // Thinking that goes on is ended as a spent budget ends it.
  void end_thinking() { steering_.end_thinking(); }

  // Text and tokens since the last call; nullopt while there is no text to show.
  std::optional<Delta> take_delta();
  // The same, also when only tokens are left.
  std::optional<Delta> take_rest();

  int tokens() const { return tokens_; }
  int reasoning_tokens() const { return steering_.reasoning_tokens(); }

 private:
  void add_text(std::string_view text);
  void add_split(text::ReasoningDelta&& split);
  void add_messages(text::HarmonyParser::Delta&& delta);
  int calls_begun() const;
  int calls_ended() const;
  bool has_text() const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  Steering steering_;
  text::Detokenizer detokenizer_;
  text::StopMatcher stop_;
  text::ReasoningSplitter splitter_;
  std::optional<text::ToolCallParser> calls_;
  std::optional<text::HarmonyParser> messages_;  // in place of both
  const bool parallel_calls_;
  const int choice_;
  const int min_tokens_;
  const bool wants_logprobs_;
  Delta pending_;
  int tokens_ = 0;
};

}  // namespace ridge::engine
