#pragma once

#include <string_view>

namespace ridge::text {

// Whether a text starts with a tag, or may do once there is more of it.
enum class Start { no, maybe, yes };

// `ended`: there is no more of `text`. Nothing starts with an empty tag.
inline Start starts_with(std::string_view text, std::string_view tag, bool ended) {
  if (tag.empty()) return Start::no;
  if (text.starts_with(tag)) return Start::yes;
  return !ended && tag.starts_with(text) ? Start::maybe : Start::no;
}

}  // namespace ridge::text
