#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/answer_pieces.h"

namespace ridge::text {

class Tokenizer;

// The tags of harmony, in which gpt-oss answers (OpenAI, "OpenAI harmony response format"): messages
//   [<|start|>assistant]<|channel|>analysis<|message|>…<|end|>
// one after the other, of which the prompt has begun the first. A call of a tool is a message to it:
//   <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>
namespace harmony {
inline constexpr std::string_view start = "<|start|>";
inline constexpr std::string_view channel = "<|channel|>";
inline constexpr std::string_view constrain = "<|constrain|>";
inline constexpr std::string_view message = "<|message|>";
inline constexpr std::string_view end = "<|end|>";
inline constexpr std::string_view call = "<|call|>";      // ends a message to a tool, and the turn
inline constexpr std::string_view returns = "<|return|>";  // ends the turn
inline constexpr std::string_view assistant = "assistant";
inline constexpr std::string_view analysis = "analysis";
inline constexpr std::string_view commentary = "commentary";
inline constexpr std::string_view final_channel = "final";
inline constexpr std::string_view functions = "functions.";  // before a tool's name
}  // namespace harmony

// Whether answers are harmony: the template writes its tags, and each is a token.
bool speaks_harmony(std::string_view template_source, const Tokenizer& tokenizer);

// Splits an answer in harmony into reasoning, content and calls while it streams. What it gives out,
// and in which order, does not depend on how the text is cut: a tag or a head that is not complete
// is held back.
//
// Messages on the channel `analysis` are reasoning, those to a tool that exists are calls, all others
// are content: what is said to the user on `commentary` as well as on `final`. A newline stands
// between two messages of a kind. A message that is not ended ends where the next begins. Text
// without any tags is content.
class HarmonyParser {
 public:
  struct Delta {
    std::string reasoning;
    AnswerPieces pieces;
    bool empty() const { return reasoning.empty() && pieces.empty(); }
  };
  enum class Place { head, reasoning, content, call };

  // `names`: the tools that may be called.
  explicit HarmonyParser(std::vector<std::string> names);

  Delta push(std::string_view text);
  // The end of the answer, which may also be that of a call: gives out what was held back.
  Delta flush();

  Place place() const { return place_; }
  // Whether the answer has not begun.
  bool is_fresh() const { return is_first_ && place_ == Place::head && held_.empty(); }
  // Calls that have begun, and those that have ended.
  int begun() const { return begun_; }
  int ended() const { return ended_; }
  // The name of the call that is open and, behind the push in which it opened, its arguments so
  // far.
  const std::string& open_name() const { return open_name_; }
  std::string open_arguments() const { return given_ + held_; }

 private:
  bool pass_head(Delta& delta, bool ended);
  bool pass_body(Delta& delta, bool ended);
  void begin_content();
  void open(std::string_view head, Delta& delta);
  void give(std::string_view text, Delta& delta);
  void close(Delta& delta);
  const std::string* tool_of(std::string_view recipient) const;

  const std::vector<std::string> names_;
  Place place_ = Place::head;
  std::string held_;          // not yet given out
  bool is_first_ = true;      // the message whose head the prompt has begun
  bool has_reasoning_ = false, has_content_ = false;  // of earlier messages
  bool is_begun_ = false;     // something of this message was given out
  std::string open_name_;
  std::string given_;         // of the arguments of the open call, in the last push
  int begun_ = 0;
  int ended_ = 0;
};

}  // namespace ridge::text
