#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/answer_pieces.h"
#include "text/callable_tool.h"
#include "text/json_scanner.h"
#include "text/tool_style.h"
#include "text/xml_arguments.h"

namespace ridge::text {

// Splits an answer into content and calls of tools while it streams. What it gives out, and in
// which order, does not depend on how the text is cut.
//
// A call begins where the style opens one, names a tool that exists and opens its arguments; text
// that only looks like it is given back as content, whole. From there on, whatever the model writes
// up to the end of the call is its arguments, also where that is no JSON (of a style without JSON,
// up to what is no parameter). White space around calls, and the tags of the style, are left out.
class ToolCallParser {
 public:
  // `tools`: those that may be called.
  ToolCallParser(ToolStyle style, std::vector<CallableTool> tools);

  AnswerPieces push(std::string_view text);
  // The end of the answer: gives out what was held back.
  AnswerPieces flush();

  // Calls that have begun, and those that have ended.
  int begun() const { return begun_; }
  int ended() const { return ended_; }
  // Whether the text is inside a call for certain: its tag was seen, or its name and the start of
  // its arguments.
  bool is_open() const {
    return state_ == State::arguments || state_ == State::tail ||
           (state_ == State::head && is_tagged_);
  }
  // The text of the open call from its first byte, known until the next push.
  std::string open_text() const { return opened_text_ + held_; }

 private:
  enum class State {
    content,
    head,       // between the opening and the arguments
    arguments,  // inside their object
    tail,       // between the arguments and the end of the call
  };
  struct Opening;
  struct Head;

  void advance(AnswerPieces& delta, bool ended);
  bool pass_content(AnswerPieces& delta, bool ended);
  bool pass_head(AnswerPieces& delta, bool ended);
  bool pass_arguments(AnswerPieces& delta, bool ended);
  bool pass_xml_arguments(AnswerPieces& delta, bool ended);
  bool pass_tail(bool ended);
  bool pass_members_after_arguments(bool ended);

  bool skip_what_stands_around_calls(bool ended);
  Opening find_opening(bool ended) const;
  void open_call(std::size_t before, std::size_t size, bool tagged);
  void give_content(AnswerPieces& delta, std::size_t size);
  void give_head_back(AnswerPieces& delta);
  bool take_whole_object(AnswerPieces& delta);
  void begin_call(AnswerPieces& delta, std::string name);
  void give_arguments(AnswerPieces& delta, std::size_t size);
  void end_call();
  void drop(std::size_t size);

  Head match_head() const;
  Head match_json_head() const;
  Head match_deepseek_head() const;
  Head match_xml_head() const;
  const CallableTool* find_tool(std::string_view name) const;
  bool knows_beginning(std::string_view name) const;

  const ToolStyle style_;
  const ToolTags& tags_;
  const std::vector<CallableTool> tools_;

  State state_ = State::content;
  std::string held_;             // not yet given out
  std::string space_;            // white space that is content only if content follows
  bool may_open_bare_ = true;    // nothing but white space since the start or the last call
  bool is_tagged_ = false;       // the call that is open began with a tag
  std::string opening_;          // its tag
  std::string opened_text_;      // what was passed of it since the push in which it opened
  JsonScanner scanner_;          // of the object that is open
  std::size_t scanned_ = 0;      // bytes of held_ that the scanner has seen
  std::size_t outer_depth_ = 0;  // of the scanner, around the arguments
  std::optional<XmlArguments> xml_;  // of the call that is open, where the style has them
  int begun_ = 0;
  int ended_ = 0;
};

}  // namespace ridge::text
