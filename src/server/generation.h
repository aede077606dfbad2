#pragma once

#include <memory>
#include <vector>

#include "engine/engine.h"
#include "server/answer_queue.h"

namespace ridge::server {

// The engine requests behind one HTTP request, one for each prompt. Destroying it cancels what
// still runs.
class Generation {
 public:
  // The queue was made for as many requests as are going to be submitted. Choices count on from
  // prompt to prompt, beginning with `first_choice`.
  Generation(std::shared_ptr<engine::Engine> engine, std::shared_ptr<AnswerQueue> queue,
             int first_choice = 0);
  ~Generation() { cancel(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Throws as Engine::submit.
  void submit(engine::Request request);

  // The queue still receives one end.
  void cancel();
  // The same; the end tells why. Any thread.
  void cancel(const Error& why);
  void end_thinking();

 private:
  std::shared_ptr<engine::Engine> engine_;
  std::shared_ptr<AnswerQueue> queue_;
  int next_choice_;
  std::vector<engine::RequestId> ids_;
};

}  // namespace ridge::server
