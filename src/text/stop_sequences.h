#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::text {

// Finds stop sequences in text that streams, holding back only what may be the beginning of one.
class StopMatcher {
 public:
  // Empty sequences are left out. `include_match` gives the stop sequence out as part of the text.
  explicit StopMatcher(std::vector<std::string> sequences, bool include_match = false);

  // The text that is safe to show. After a match it is the text up to the match, and every later
  // call gives nothing. The sequence that is complete first wins, of several at once the longest,
  // so the result does not depend on how the text is cut into deltas.
  std::string push(std::string_view text);
  // The end of the answer without a match: gives out what was held back.
  std::string flush();

  bool matched() const { return match_.has_value(); }
  // The sequence that ended the text, or nullptr.
  const std::string* match() const { return match_ ? &sequences_[*match_] : nullptr; }

 private:
  std::vector<std::string> sequences_;
  bool include_match_;
  std::string held_;
  std::optional<std::size_t> match_;
};

}  // namespace ridge::text
