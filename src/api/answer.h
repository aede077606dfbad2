#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/request.h"

namespace ridge::api {

struct ChatRequest;
struct CompletionRequest;
struct EmbeddingRequest;
struct RankingRequest;

inline constexpr std::string_view event_stream_type = "text/event-stream; charset=utf-8";
// A comment, which clients skip: keeps proxies from closing a stream that waits.
inline constexpr std::string_view heartbeat_event = ": waiting\n\n";

// What stays the same in every part of one answer.
struct AnswerHead {
  std::string id;  // "chatcmpl-…"
  int64_t created_s = 0;
  std::string model;
  std::string fingerprint;
  int prompt_tokens = 0;  // of all prompts
};

// What an answer with `echo` begins with.
struct EchoedPrompt {
  std::string text;
  engine::TokenLogprob first;  // its first token, which nothing predicts
};

// Turns what the engine says about one request into the body that the client reads, in the wire
// format of one endpoint. Calls come in order: begin, then add and finish_choice as they happen,
// then finish once; or, where the request failed, none after the failure. Each appends to `out`
// what can be sent at once. Single-threaded.
class Answer {
 public:
  virtual ~Answer() = default;

  // Whether `out` is a stream of events rather than one document at the end.
  virtual bool streams() const = 0;
  // Of a stream; documents are JSON.
  virtual std::string_view stream_type() const { return event_stream_type; }
  virtual void begin(std::string& out) = 0;
  // The prompt whose first choice this is, scored: all of its tokens but the first. Before `add`.
  virtual void add_prompt(int /*first_choice*/, std::span<const engine::TokenInfo> /*tokens*/,
                          std::string& /*out*/) {}
  // What stands for a prompt, where that is all that is asked for: [hidden], not normalised.
  virtual void add_embedding(int /*choice*/, std::vector<float>&& /*embedding*/) {}
  // `choice` counts over all prompts of the request.
  virtual void add(int choice, const engine::Delta& delta, std::string& out) = 0;
  virtual void finish_choice(int choice, engine::FinishReason reason, std::string& out) = 0;
  virtual void finish(const engine::Usage& usage, std::string& out) = 0;
  // Ends a stream after a failure; as OpenAI does it, unless the format does it otherwise.
  virtual void fail(const Error& error, std::string_view request_id, std::string& out);
  // Keeps a stream alive that waits; empty where the format has nothing that clients skip.
  virtual std::string_view heartbeat() const { return heartbeat_event; }
};

std::unique_ptr<Answer> make_answer(const ChatRequest& request, AnswerHead head);
// `echoes`: one for each prompt where the request has `echo`, else none.
std::unique_ptr<Answer> make_answer(const CompletionRequest& request, AnswerHead head,
                                    std::vector<EchoedPrompt> echoes = {});
std::unique_ptr<Answer> make_answer(const EmbeddingRequest& request, AnswerHead head);
std::unique_ptr<Answer> make_answer(const RankingRequest& request, AnswerHead head);

// "stop", "length" or "tool_calls"; the other reasons end a request with an error instead.
std::string_view openai_finish_reason(engine::FinishReason reason);

// The event that ends a stream after a failure: `data: {"error":…}`, and no [DONE].
std::string error_event(const Error& error, std::string_view request_id);

inline constexpr std::string_view done_event = "data: [DONE]\n\n";

}  // namespace ridge::api
