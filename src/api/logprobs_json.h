#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/request.h"

namespace ridge::api {

// Appends chat's form of each token, separated by commas:
// {"token","logprob","bytes","top_logprobs":[…]}. `bytes` are exact where `token` cannot be,
// because a token may be a part of a character.
void append_chat_logprobs(std::string& out, std::span<const engine::TokenInfo> tokens);

// The name that the completions endpoint gives a token: its text, or "bytes:\xe2\x80" where it is a
// part of a character, so that two tokens never share a name in an object.
std::string completion_token_name(std::string_view bytes);

// Collects the completions endpoint's form: arrays of tokens, token_logprobs, top_logprobs and
// text_offset (in characters from the start of the text, as Python's strings count).
class CompletionLogprobs {
 public:
  CompletionLogprobs() = default;
  // Of a prompt that texts begin with. `first` is its first token, whose logprob is null, since
  // nothing predicts it; `tokens` are the others. A token that the text does not show, such as a
  // BOS that was put before it, takes no characters.
  CompletionLogprobs(std::string_view text, const engine::TokenLogprob& first,
                     std::span<const engine::TokenInfo> tokens);

  // Before any `add`. Several texts share the prompt that they begin with.
  void begin_with(std::shared_ptr<const CompletionLogprobs> prompt);
  void add(std::span<const engine::TokenInfo> tokens);
  bool empty() const { return tokens_.empty() && prompt_ == nullptr; }
  // Appends the object for what was added since the last call.
  void append_and_clear(std::string& out);

 private:
  void add_token(const engine::TokenInfo& token);
  void add_name(std::string_view bytes);

  std::shared_ptr<const CompletionLogprobs> prompt_;  // until it is appended
  std::string tokens_, logprobs_, tops_, offsets_;    // elements, separated by commas
  std::size_t offset_characters_ = 0;
};

}  // namespace ridge::api
