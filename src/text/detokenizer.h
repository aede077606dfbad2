#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

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
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true);

  // The text that this token completes; often empty while a character is unfinished.
  std::string push(int32_t id);
  // The end of the answer; what is left becomes U+FFFD or is empty.
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  Utf8Assembler assembler_;
};

}  // namespace ridge::text
