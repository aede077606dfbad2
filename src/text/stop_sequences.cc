#include "text/stop_sequences.h"

#include <algorithm>
#include <utility>

namespace ridge::text {
namespace {

// The bytes at the end of `text` that may be the beginning of `sequence`.
std::size_t possible_beginning(std::string_view text, std::string_view sequence) {
  for (std::size_t size = std::min(text.size(), sequence.size() - 1); size > 0; --size) {
    if (text.ends_with(sequence.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> sequences, bool include_match)
    : sequences_(std::move(sequences)), include_match_(include_match) {
  std::erase_if(sequences_, [](const std::string& sequence) { return sequence.empty(); });
}

std::string StopMatcher::push(std::string_view text) {
  if (match_) return {};
  held_.append(text);
  std::size_t first_end = std::string::npos;
  std::size_t held_back = 0;
  for (std::size_t index = 0; index < sequences_.size(); ++index) {
    const std::string& sequence = sequences_[index];
    const std::size_t begin = held_.find(sequence);
    if (begin == std::string::npos) {
      held_back = std::max(held_back, possible_beginning(held_, sequence));
      continue;
    }
    const std::size_t end = begin + sequence.size();
    const bool is_longer = end == first_end && sequence.size() > sequences_[*match_].size();
    if (end < first_end || is_longer) {
      first_end = end;
      match_ = index;
    }
  }
  const std::size_t size = match_ ? first_end - (include_match_ ? 0 : sequences_[*match_].size())
                                  : held_.size() - held_back;
  std::string shown = held_.substr(0, size);
  held_.erase(0, match_ ? held_.size() : size);
  return shown;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace ridge::text
