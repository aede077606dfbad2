#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace ridge::text {

// Turns bytes that arrive in pieces into UTF-8 text that never splits a character. A byte that can
// no longer become part of a character turns into U+FFFD, one for each maximal ill-formed subpart
// (Unicode 3.9, "U+FFFD Substitution of Maximal Subparts"), as Rust's and Python's decoders do.
class Utf8Assembler {
 public:
  // The characters that `bytes` completes.
  std::string push(std::string_view bytes);
  // Ends the text: an unfinished character becomes one U+FFFD.
  std::string flush();
  bool holds_bytes() const { return !pending_.empty(); }

 private:
  std::string pending_;  // at most 3 bytes: the start of a character that may yet be completed
};

// Tokens of one answer → text, as they come. Text continues the prompt, so a SentencePiece answer
// keeps its first space (Tokenizer::decode, which sees a whole text, strips it).
class Detokenizer {
 public:
  // `shown`: control tokens that are text all the same, such as those around calls of tools.
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true,
                       std::vector<int32_t> shown = {});

  // The text that this token completes; often empty while a character is unfinished.
  std::string push(int32_t id);
  // The end of the answer; what is left becomes U+FFFD or is empty.
  std::string flush();
  // Whether a character is unfinished.
  bool is_mid_character() const { return assembler_.holds_bytes(); }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  std::vector<int32_t> shown_;
  Utf8Assembler assembler_;
};

}  // namespace ridge::text
