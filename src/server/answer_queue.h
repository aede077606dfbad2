#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/request.h"

namespace ridge::server {

// What the engine said of one choice.
struct AnswerEvent {
  enum class Kind { text, prompt, embedding, finished };

  Kind kind = Kind::text;
  int choice = 0;
  engine::Delta delta;                    // of text
  std::vector<engine::TokenInfo> prompt;  // of the prompt whose first choice this is
  std::vector<float> embedding;
  engine::FinishReason reason = engine::FinishReason::stop;  // of what has finished
};

// How the whole answer ended.
struct AnswerEnd {
  engine::Usage usage;                         // over all of its requests
  std::optional<Error> error;                  // where one failed
  bool cancelled = false;                      // where one was cancelled
  std::optional<engine::FinishReason> reason;  // of the first choice of the first to end
};

// Between the engine's thread, which fills it, and a connection, which empties it. A slow client
// makes deltas of one choice grow together, in the order of what they say. What waits is bounded by
// `max_bytes`, after which all but ends is dropped and `overflowed` is true.
class AnswerQueue {
 public:
  // `requests`: how many engine requests fill it. `wake` is called on the engine's thread whenever
  // there is something to look at that was not there at the last `take`; with `wake_for_text` false
  // only for the end.
  AnswerQueue(int requests, std::size_t max_bytes, bool wake_for_text, std::function<void()> wake);

  void push_prompt(int choice, std::vector<engine::TokenInfo>&& tokens);
  void push_embedding(int choice, std::vector<float>&& embedding);
  void push_delta(int choice, engine::Delta&& delta);
  void push_choice_finish(int choice, engine::FinishReason reason);
  void push_finish(const engine::Finish& finish);
  // The error of an end by cancellation, from now on.
  void set_why_cancelled(const Error& why);

  // What has come since the last call, in order for each choice.
  std::vector<AnswerEvent> take();
  // Set once all requests have ended; ask after `take`, so that nothing comes behind the end.
  std::optional<AnswerEnd> end() const;
  // The same whatever waits: nothing more comes.
  bool has_ended() const;
  // What waits to be taken, about.
  std::size_t bytes() const;
  bool overflowed() const;

 private:
  void push(AnswerEvent&& event, std::size_t bytes = 0);
  void append_locked(int choice, engine::Delta&& delta);

  const std::size_t max_bytes_;
  const bool wake_for_text_;
  const std::function<void()> wake_;

  mutable std::mutex mutex_;
  std::vector<AnswerEvent> events_;
  std::size_t bytes_ = 0;
  bool overflowed_ = false;
  bool woken_ = false;  // since the last take
  int unfinished_;
  AnswerEnd end_;
  std::optional<Error> why_cancelled_;
};

}  // namespace ridge::server
