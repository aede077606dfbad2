#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/request.h"

namespace ridge::api {

struct ChatRequest;
struct CompletionRequest;

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
std::unique_ptr<Answer> make_answer(const CompletionRequest& request, AnswerHead head);

// `prefix` followed by 24 random letters and digits.
std::string random_id(std::string_view prefix);

// "stop", "length" or "tool_calls"; the other reasons end a request with an error instead.
std::string_view openai_finish_reason(engine::FinishReason reason);

// The event that ends a stream after a failure: `data: {"error":…}`, and no [DONE].
std::string error_event(const Error& error, std::string_view request_id);

inline constexpr std::string_view done_event = "data: [DONE]\n\n";

}  // namespace ridge::api
