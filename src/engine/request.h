#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/priority.h"
#include "sampling/sampling_params.h"
#include "text/answer_pieces.h"
#include "text/callable_tool.h"
#include "text/tool_style.h"

namespace ridge::text {
class Grammar;
}

namespace ridge::engine {

class RequestTrace;

// Which hidden states stand for a text: the mean over its tokens, or that of the last one, which
// has seen all others.
enum class Pooling { mean, last };

// The tools that an answer may call.
struct ToolUse {
  text::ToolStyle style = text::ToolStyle::hermes;
  std::vector<text::CallableTool> tools;
  bool parallel = true;  // else the answer ends with its first call
  // One call, which the answer then follows from the opening of a call to its end; may be null.
  // Where the request has a grammar for all of its content, that counts instead.
  std::shared_ptr<const text::Grammar> call_grammar;

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const text::CallableTool& tool : tools) all.push_back(tool.name);
    return all;
  }
};

// One accepted piece of work: a prompt and how to continue it.
struct Request {
  std::string id;                      // for logs and traces
  std::vector<int32_t> prompt_tokens;  // 1 to context - 1
  sampling::SamplingParams sampling;
  int max_tokens = 0;             // generated at most, from 1; clipped to the context's rest
  int choices = 1;                // independent answers to one prompt
  std::vector<std::string> stop;  // at most 16, none empty; not part of the text
  int min_tokens = 0;             // neither end-of-generation nor stop strings before these
  bool ignore_eos = false;
  // Split <think>…</think> off as reasoning;
  // `prompt_opens_reasoning` when the prompt ends inside it.
  bool split_reasoning = false;
  bool prompt_opens_reasoning = false;
  // The answer is messages on channels, text::HarmonyParser; each tag is a token of the vocabulary. A
  // grammar then begins at the <|channel|> of the message behind the reasoning.
  bool harmony = false;
  // Reasoning tokens after which the thinking is ended as the model itself would end it; absent:
  // never.
  std::optional<int> thinking_budget;
  // What the content is an instance of, from the end of the reasoning on; may be null. The answer
  // can end only where the grammar accepts it; where nothing else may follow, it ends in spite of
  // min_tokens and ignore_eos. Stop sequences and max_tokens cut it off anywhere.
  std::shared_ptr<const text::Grammar> grammar;
  std::optional<ToolUse> tools;  // absent: calls are not looked for
  // Those who share turns and the prefix cache; the engine knows no more of a tenant than this.
  std::string group;
  double group_weight = 1;  // its share against others', above 0; the latest one counts
  int priority = 0;         // larger first; background_priority: while nothing else is to be done
  // From its submission; what has not ended then ends as failed, timed_out.
  std::optional<Clock::Duration> deadline;
  // When it was taken, and its trace told of it, where that was before `submit`; absent: then.
  std::optional<Clock::TimePoint> submitted;
  // Logprobs of each prompt token and so many others; -1: none. See RequestListener::on_prompt.
  int prompt_logprobs = -1;
  // Instead of an answer, a vector that stands for the prompt; nothing is generated.
  std::optional<Pooling> embedding;
  int adapter = -1;                     // its place in ModelInfo::adapters; -1: the model as it is
  bool speculation = true;              // guesses never change the answer, only how fast it comes
  std::shared_ptr<RequestTrace> trace;  // hears what happens to it; may be null
};

inline bool is_foreground(const Request& request) { return request.priority > background_priority; }

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm, of the distribution before temperature and cut-offs
  std::string bytes;  // the token's own bytes, not always whole UTF-8 characters
};

struct TokenInfo {
  TokenLogprob picked;
  std::vector<TokenLogprob> top;  // descending; empty unless asked for
};

// New text of one choice. Strings are whole UTF-8 characters; any may be empty.
struct Delta {
  int choice = 0;
  std::string reasoning;
  text::AnswerPieces pieces;      // behind the reasoning
  std::vector<TokenInfo> tokens;  // of this delta; filled when top_logprobs >= 0
  int token_count = 0;            // tokens that this delta accounts for
  std::string stop_sequence;      // the one that ended the choice; in its last delta
};

enum class FinishReason {
  stop,
  length,
  tool_calls,  // stopped, after at least one call of a tool
  cancelled,
  failed,
};
inline constexpr size_t finish_reasons = 5;

// Whether an answer that ended so is one, whole or cut off.
inline bool is_answer(FinishReason reason) {
  return reason == FinishReason::stop || reason == FinishReason::length ||
         reason == FinishReason::tool_calls;
}

struct Usage {
  int prompt_tokens = 0;  // none where it ended before it was begun
  int cached_tokens = 0;  // of the prompt, found in the prefix cache
  int completion_tokens = 0;
  int reasoning_tokens = 0;  // of the completion
  double queue_ms = 0;       // submit to first schedule
  double ttft_ms = 0;        // submit to first token
  double duration_ms = 0;    // submit to terminal event
};

// The one terminal event of a request.
struct Finish {
  std::vector<FinishReason> reasons;  // for each choice; none where the request was not taken
  std::optional<Error> error;         // when any reason is failed
  Usage usage;                        // over all choices
};

// Called on the engine's thread; must return quickly and not throw.
struct RequestListener {
  // Before any delta, where prompt_logprobs was asked for: all prompt tokens but the first, which
  // nothing predicts.
  std::function<void(std::vector<TokenInfo>&&)> on_prompt;
  // Where an embedding was asked for: [hidden], not normalised.
  std::function<void(std::vector<float>&&)> on_embedding;
  std::function<void(Delta&&)> on_delta;
  std::function<void(int choice, FinishReason reason)> on_choice_finish;  // before on_finish
  std::function<void(const Finish&)> on_finish;                           // exactly once
};

}  // namespace ridge::engine
