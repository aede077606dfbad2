#include "text/harmony.h"

#include <algorithm>
#include <array>

#include "text/tag_start.h"
#include "text/tokenizer.h"

namespace ridge::text {
namespace {

// What ends the text of a message; a head may begin with the last two.
constexpr std::array<std::string_view, 5> ends_of_message = {
    harmony::end, harmony::call, harmony::returns, harmony::start, harmony::channel};
// What a head has, the first with or without its role.
constexpr std::array<std::string_view, 5> parts_of_first_head = {
    harmony::channel, harmony::message, harmony::constrain, harmony::start, "to="};

// A head that is longer is none, and given out as text.
constexpr std::size_t max_head_bytes = 1024;

struct FoundTag {
  std::size_t at = std::string_view::npos;
  std::string_view tag;
};

// The first of `tags`, or the place from which on the text may be the beginning of one.
template <std::size_t Count>
FoundTag find_tag(std::string_view text, const std::array<std::string_view, Count>& tags) {
  for (std::size_t at = text.find('<'); at != std::string_view::npos; at = text.find('<', at + 1)) {
    const std::string_view rest = text.substr(at);
    for (const std::string_view tag : tags) {
      const Start start = starts_with(rest, tag, /*ended=*/false);
      if (start == Start::yes) return {at, tag};
      if (start == Start::maybe) return {at, {}};
    }
  }
  return {};
}

// The word behind `before`, up to white space or a tag; empty where there is none.
std::string_view word_behind(std::string_view head, std::string_view before) {
  const std::size_t at = head.find(before);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = head.substr(at + before.size());
  const std::size_t size = rest.find_first_of(" \t\r\n<");
  return rest.substr(0, size);
}

}  // namespace

bool speaks_harmony(std::string_view template_source, const Tokenizer& tokenizer) {
  const auto is_written = [&](std::string_view tag) {
    return template_source.find(tag) != std::string_view::npos;
  };
  return is_written(harmony::channel) && is_written(harmony::message) &&
         std::ranges::all_of(std::array{harmony::start, harmony::channel, harmony::message,
                                        harmony::constrain, harmony::end, harmony::call},
                             [&](std::string_view tag) { return tokenizer.find(tag).has_value(); });
}

HarmonyParser::HarmonyParser(std::vector<std::string> names) : names_(std::move(names)) {}

HarmonyParser::Delta HarmonyParser::push(std::string_view text) {
  given_.clear();
  held_.append(text);
  Delta delta;
  while (place_ == Place::head ? pass_head(delta, /*ended=*/false)
                               : pass_body(delta, /*ended=*/false)) {
  }
  return delta;
}

HarmonyParser::Delta HarmonyParser::flush() {
  Delta delta;
  while (place_ == Place::head ? pass_head(delta, /*ended=*/true)
                               : pass_body(delta, /*ended=*/true)) {
  }
  if (place_ != Place::head) close(delta);
  return delta;
}

// False where more must be seen.
bool HarmonyParser::pass_head(Delta& delta, bool ended) {
  const std::size_t end = held_.find(harmony::message);
  const std::string_view text = held_;
  if (is_first_) {
    const std::string_view begun = text.substr(std::min(text.find_first_not_of(' '), text.size()));
    const bool may_be_head = std::ranges::any_of(parts_of_first_head, [&](std::string_view part) {
      return starts_with(begun, part, ended) != Start::no;
    });
    if (!may_be_head) {
      if (begun.empty()) return false;
      begin_content();
      return true;
    }
  }
  if (end == std::string::npos || end + harmony::message.size() > max_head_bytes) {
    if (ended) held_.clear();
    if (held_.size() <= max_head_bytes) return false;
    // Without the tag in front, or it would be a head again.
    const FoundTag tag = find_tag(held_, ends_of_message);
    if (tag.at == held_.find_first_not_of(' ')) held_.erase(0, tag.at + tag.tag.size());
    begin_content();
    return true;
  }
  // The last of several, where a message was begun anew before it had a text.
  std::string head = held_.substr(0, end);
  if (const std::size_t again = head.rfind(harmony::start); again != std::string::npos) {
    head.erase(0, again + harmony::start.size());
  }
  held_.erase(0, end + harmony::message.size());
  is_first_ = false;
  open(head, delta);
  return true;
}

// What was held as a head is none.
void HarmonyParser::begin_content() {
  place_ = Place::content;
  is_begun_ = false;
  is_first_ = false;
}

void HarmonyParser::open(std::string_view head, Delta& delta) {
  is_begun_ = false;
  const std::string_view channel = word_behind(head, harmony::channel);
  if (const std::string* name = tool_of(word_behind(head, "to="))) {
    place_ = Place::call;
    open_name_ = *name;
    given_.clear();
    delta.pieces.add_call({begun_++, /*begins=*/true, *name, {}});
  } else {
    place_ = channel == harmony::analysis ? Place::reasoning : Place::content;
  }
}

const std::string* HarmonyParser::tool_of(std::string_view recipient) const {
  if (recipient.starts_with(harmony::functions)) recipient.remove_prefix(harmony::functions.size());
  const auto found = std::ranges::find(names_, recipient);
  return found == names_.end() ? nullptr : &*found;
}

bool HarmonyParser::pass_body(Delta& delta, bool ended) {
  const FoundTag found = find_tag(held_, ends_of_message);
  const bool is_whole = !found.tag.empty();
  const std::size_t size = is_whole || !ended ? std::min(found.at, held_.size()) : held_.size();
  give(std::string_view(held_).substr(0, size), delta);
  held_.erase(0, size);
  if (!is_whole) return false;
  close(delta);
  const bool begins_head = found.tag == harmony::start || found.tag == harmony::channel;
  if (!begins_head) held_.erase(0, found.tag.size());
  return true;
}

void HarmonyParser::give(std::string_view text, Delta& delta) {
  if (text.empty()) return;
  if (place_ == Place::call) {
    given_ += text;
    delta.pieces.add_call({begun_ - 1, /*begins=*/false, {}, std::string(text)});
    is_begun_ = true;
    return;
  }
  const bool is_reasoning = place_ == Place::reasoning;
  const bool follows = !is_begun_ && (is_reasoning ? has_reasoning_ : has_content_);
  is_begun_ = true;
  if (is_reasoning) {
    if (follows) delta.reasoning += '\n';
    delta.reasoning += text;
    has_reasoning_ = true;
  } else {
    if (follows) delta.pieces.add_content("\n");
    delta.pieces.add_content(text);
    has_content_ = true;
  }
}

void HarmonyParser::close(Delta& delta) {
  if (place_ == Place::call) {
    if (!is_begun_) give("{}", delta);
    ++ended_;
  }
  place_ = Place::head;
  open_name_.clear();
}

}  // namespace ridge::text
