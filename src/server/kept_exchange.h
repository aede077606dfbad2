#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "platform/kept/kept_requests.h"
#include "server/answer_queue.h"

namespace ridge::server {

// What was asked and is answered, of a request whose project keeps both; bounded as KeptRequests
// has it, whatever the engine says. Vectors are not kept. For one thread at a time.
class KeptExchange {
 public:
  // With all that is known before the answer; the prompt is the body as it was sent, and is cut
  // where it is too long.
  explicit KeptExchange(platform::KeptRequest request);

  // An engine has taken it; before, there is nothing to keep.
  void begin() { has_begun_ = true; }
  bool has_begun() const { return has_begun_; }
  void add(const AnswerEvent& event);
  // With the answer. Once.
  platform::KeptRequest take(std::string finish_reason);

 private:
  struct Call {
    std::string name, arguments;
  };
  struct Choice {
    std::string reasoning, content;
    std::vector<Call> calls;
    std::string finish_reason;  // empty: it has not ended as an answer
  };

  Choice& choice_of(int index);
  void append(std::string& to, std::string_view text);
  void append(Choice& choice, const text::ToolCallPiece& piece);

  platform::KeptRequest request_;
  bool has_begun_ = false, has_vectors_ = false;
  std::vector<Choice> choices_;
  std::size_t bytes_ = 0;  // of the answer
};

}  // namespace ridge::server
