#include "text/reasoning.h"

#include <algorithm>

#include "base/trimmed.h"

namespace ridge::text {
namespace {

// The bytes at the end of `text` that may be the beginning of `tag`.
std::size_t possible_tag(std::string_view text, std::string_view tag) {
  for (std::size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(ReasoningMode mode) {
  switch (mode) {
    case ReasoningMode::none:
      phase_ = Phase::content;
      trims_newlines_ = false;
      break;
    case ReasoningMode::starts_inside:
      phase_ = Phase::before_reasoning;
      break;
    case ReasoningMode::optional:
      phase_ = Phase::undecided;
      break;
  }
}

void ReasoningSplitter::begin_content() {
  phase_ = Phase::content;
  trims_newlines_ = false;
}

ReasoningDelta ReasoningSplitter::push(std::string_view text) {
  held_.append(text);
  ReasoningDelta delta;
  advance(delta, /*ended=*/false);
  return delta;
}

ReasoningDelta ReasoningSplitter::flush() {
  ReasoningDelta delta;
  advance(delta, /*ended=*/true);
  return delta;
}

void ReasoningSplitter::advance(ReasoningDelta& delta, bool ended) {
  if (phase_ == Phase::undecided || phase_ == Phase::before_reasoning) {
    if (!pass_opening_tag(ended)) return;
  }
  if (phase_ == Phase::reasoning) {
    const std::size_t end = held_.find(think_close_tag);
    const bool closes = end != std::string::npos;
    const std::size_t held_back = ended ? 0 : possible_tag(held_, think_close_tag);
    give_out(delta.reasoning, closes ? end : held_.size() - held_back);
    if (!closes) return;
    held_.erase(0, think_close_tag.size());
    phase_ = Phase::content;
    trims_newlines_ = true;
  }
  give_out(delta.content, held_.size());
}

// True once it is known how the answer begins.
bool ReasoningSplitter::pass_opening_tag(bool ended) {
  const std::size_t begin = std::min(held_.find_first_not_of(white_space), held_.size());
  const std::string_view text = std::string_view(held_).substr(begin);
  if (text.starts_with(think_open_tag)) {
    held_.erase(0, begin + think_open_tag.size());
    phase_ = Phase::reasoning;
    return true;
  }
  if (!ended && think_open_tag.starts_with(text)) return false;
  if (phase_ == Phase::before_reasoning) {
    phase_ = Phase::reasoning;
  } else {
    phase_ = Phase::content;
    trims_newlines_ = false;
  }
  return true;
}

// Moves the first `size` bytes of what is held to `out`, without the newlines that begin a part.
void ReasoningSplitter::give_out(std::string& out, std::size_t size) {
  std::string_view text = std::string_view(held_).substr(0, size);
  if (trims_newlines_) {
    std::size_t newlines = std::min(text.find_first_not_of('\n'), text.size());
    if (phase_ == Phase::content) {
      newlines = std::min(newlines, most_left_out_ - std::min(left_out_, most_left_out_));
      left_out_ += newlines;
    }
    text.remove_prefix(newlines);
    if (!text.empty()) trims_newlines_ = false;
  }
  out.append(text);
  held_.erase(0, size);
}

}  // namespace ridge::text
