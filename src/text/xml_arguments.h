#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/callable_tool.h"

namespace ridge::text {

// Reads the arguments of a call as Qwen3-Coder writes them (qwen3_coder.h), and gives them as the
// text of a JSON object, while they come. A string is VALUE as it is; other types are JSON, or
// Python's True, False and None. What is none of the types that its parameter may have is given as
// the JSON that it is, or as a string.
//
// VALUE ends at the first </parameter> behind which another parameter or the end of the call
// stands, so that it may speak of tags itself.
class XmlArguments {
 public:
  // A longer value of a type other than string is given as a string.
  static constexpr std::size_t max_value_bytes = std::size_t{1} << 20;
  static constexpr std::size_t max_key_bytes = 256;

  explicit XmlArguments(CallableTool tool) : tool_(std::move(tool)) {}

  // Takes what can be understood from the beginning of `text` and adds it to `json`. Returns the
  // bytes taken; the rest must come again, with more behind it. `ended`: there is no more.
  std::size_t take(std::string_view text, bool ended, std::string& json);
  // The object is complete: what follows is not of it.
  bool is_complete() const { return state_ == State::complete; }

 private:
  enum class State {
    between,  // parameters
    value,    // of which nothing was given yet
    string,   // inside of one that is given while it comes
    complete,
  };
  struct Close;

  bool pass_between(std::string_view text, bool ended, std::string& json);
  bool pass_value(std::string_view text, bool ended, std::string& json);
  bool pass_string(std::string_view text, bool ended, std::string& json);
  Close find_close(std::string_view text, std::size_t from, bool ended) const;
  void complete(std::string& json);

  const CallableTool tool_;
  State state_ = State::between;
  bool has_parameters_ = false;
  ValueTypes types_ = any_value;  // of the value that is open
  std::size_t taken_ = 0;         // of the text at hand
  std::size_t searched_ = 0;      // of a value that was not taken, for its end
};

}  // namespace ridge::text
