#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ridge::text {

// A piece of one call. The first piece of a call begins it; pieces of calls never mix.
struct ToolCallPiece {
  int index = 0;          // of the call in its answer, from 0
  bool begins = false;    // then with the name
  std::string name;       // whole, in the first piece only
  std::string arguments;  // JSON text, to be joined; may be empty
};

using AnswerPiece = std::variant<std::string, ToolCallPiece>;  // content, or of a call

// What an answer says behind its reasoning: content and calls in the order in which the model wrote
// them. Neighbours that belong together are one piece; content is never empty.
class AnswerPieces {
 public:
  void add_content(std::string_view text);
  void add_call(ToolCallPiece&& piece);
  void append(AnswerPieces&& more);

  bool empty() const { return pieces_.empty(); }
  std::size_t size() const { return pieces_.size(); }
  auto begin() const { return pieces_.begin(); }
  auto end() const { return pieces_.end(); }

  // All content, joined.
  std::string content() const;
  // The pieces of calls without what stands between them.
  std::vector<ToolCallPiece> calls() const;

 private:
  std::vector<AnswerPiece> pieces_;
};

}  // namespace ridge::text
