#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ridge::loadgen {

// In tokens; -1 where the server does not say.
struct Usage {
  int prompt_tokens = -1;
  int cached_tokens = -1;  // of the prompt
  int output_tokens = -1;
};

// What one event of a streamed answer says, of a chat or of a completion.
struct AnswerEvent {
  bool has_text = false;  // of the answer, its reasoning or a tool call
  bool is_last = false;   // "[DONE]"
  bool finished = false;  // a choice states its finish reason
  std::optional<Usage> usage;
  std::string error;  // what an error in the stream is called, or says; else empty
};

// Throws invalid_argument for what is no JSON object.
AnswerEvent read_answer_event(std::string_view data);

// Of an answer that came as one document; all -1 where it says nothing.
Usage read_usage(std::string_view document);

// What a refusal's body calls it: "queue_full" of {"error":{"code":"queue_full",...}}; empty where
// it says nothing of the kind.
std::string error_name(std::string_view document);
// What it says to people.
std::string error_message(std::string_view document);

}  // namespace ridge::loadgen
