#include "text/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/trimmed.h"
#include "text/qwen3_coder.h"
#include "text/tag_start.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

// A call whose arguments come before its name is held back whole.
constexpr std::size_t max_held_bytes = std::size_t{64} << 10;
// Members behind the arguments, of which none are known.
constexpr std::size_t max_members_bytes = 1024;
constexpr std::size_t max_member_bytes = 256;  // of a string in front of them
// What models write between the arguments and the closing tag, in excess or as a fence.
constexpr std::string_view closing_noise = " \t\r\n}]`";

std::size_t skip(std::string_view text, std::size_t at, std::string_view what = white_space) {
  return std::min(text.find_first_not_of(what, at), text.size());
}

bool is_name_byte(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.' || byte == ':' ||
         byte == '/';
}

// Arguments as the text of an object, also where the model wrote that as a string.
std::optional<std::string> arguments_text(const ordered_json& call) {
  for (const char* key : {"arguments", "parameters"}) {
    const auto found = call.find(key);
    if (found == call.end()) continue;
    if (found->is_object())
      return found->dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    if (!found->is_string()) return std::nullopt;
    const auto& text = found->get_ref<const std::string&>();
    if (!ordered_json::parse(text, nullptr, /*allow_exceptions=*/false).is_object()) {
      return std::nullopt;
    }
    return text;
  }
  return "{}";
}

}  // namespace

struct ToolCallParser::Opening {
  Start start = Start::no;
  std::size_t at = 0;    // where it stands, or may begin to
  std::size_t size = 0;  // of the tags
};

struct ToolCallParser::Head {
  enum class Kind {
    need_more,
    arguments,  // they begin at `size`
    whole,      // the object must be read to its end
    none,       // this is no call
  };
  Kind kind = Kind::none;
  std::string name;
  std::size_t size = 0;
};

ToolCallParser::ToolCallParser(ToolStyle style, std::vector<CallableTool> tools)
    : style_(style), tags_(tags_of(style)), tools_(std::move(tools)) {}

AnswerPieces ToolCallParser::push(std::string_view text) {
  if (is_open()) opened_text_.clear();
  held_.append(text);
  AnswerPieces delta;
  advance(delta, /*ended=*/false);
  return delta;
}

AnswerPieces ToolCallParser::flush() {
  AnswerPieces delta;
  advance(delta, /*ended=*/true);
  return delta;
}

void ToolCallParser::advance(AnswerPieces& delta, bool ended) {
  bool goes_on = true;
  while (goes_on && (!held_.empty() || ended)) {
    switch (state_) {
      case State::content:
        goes_on = pass_content(delta, ended);
        break;
      case State::head:
        goes_on = pass_head(delta, ended);
        break;
      case State::arguments:
        goes_on = xml_ ? pass_xml_arguments(delta, ended) : pass_arguments(delta, ended);
        break;
      case State::tail:
        goes_on = pass_tail(ended);
        break;
    }
  }
  if (!ended) return;
  // White space behind a call is not content.
  const bool follows_call = begun_ > 0 && may_open_bare_;
  if (!follows_call) delta.add_content(space_);
  space_.clear();
}

// ---- Content ---------------------------------------------------------------------------------

bool ToolCallParser::pass_content(AnswerPieces& delta, bool ended) {
  if (may_open_bare_ && !skip_what_stands_around_calls(ended)) return false;
  if (state_ == State::head) return true;
  const Opening opening = find_opening(ended);
  if (opening.start == Start::yes) {
    give_content(delta, opening.at);
    open_call(0, opening.size, /*tagged=*/opening.size > 0);
    return true;
  }
  give_content(delta, opening.start == Start::maybe ? opening.at : held_.size());
  return false;
}

// At the start and behind a call: white space, the end of the block of calls, the sign between two
// bare calls, and the brace of a bare one. False where more must be seen.
bool ToolCallParser::skip_what_stands_around_calls(bool ended) {
  const std::size_t begin = skip(held_, 0);
  space_ += held_.substr(0, begin);
  held_.erase(0, begin);
  if (held_.empty()) return false;
  const bool follows_call = begun_ > 0;
  if (follows_call) {
    const Start closes = starts_with(held_, tags_.block_close, ended);
    if (closes == Start::maybe) return false;
    if (closes == Start::yes) {
      held_.erase(0, tags_.block_close.size());
      return skip_what_stands_around_calls(ended);
    }
  }
  if (style_ == ToolStyle::deepseek || style_ == ToolStyle::qwen3_coder) return true;
  std::size_t brace = 0;
  if (follows_call && (held_[0] == ';' || held_[0] == ',')) {
    brace = skip(held_, 1);
    if (brace == held_.size() && !ended) return false;
  }
  if (brace < held_.size() && held_[brace] == '{') open_call(brace, 0, /*tagged=*/false);
  return true;
}

ToolCallParser::Opening ToolCallParser::find_opening(bool ended) const {
  for (std::size_t at = held_.find('<'); at != std::string::npos; at = held_.find('<', at + 1)) {
    const std::string_view rest = std::string_view(held_).substr(at);
    const Start call = starts_with(rest, tags_.call_open, ended);
    if (call == Start::yes) return {call, at, tags_.call_open.size()};
    // Its tag is often left out. The function is part of the head.
    const bool may_stand_alone = style_ == ToolStyle::qwen3_coder;
    const Start bare =
        may_stand_alone ? starts_with(rest, qwen3_coder::function_open, ended) : Start::no;
    if (bare != Start::no) return {bare, at, 0};
    const Start block = starts_with(rest, tags_.block_open, ended);
    if (block == Start::yes) {
      const std::size_t inside = skip(rest, tags_.block_open.size());
      const Start first = starts_with(rest.substr(inside), tags_.call_open, ended);
      if (first != Start::no) return {first, at, inside + tags_.call_open.size()};
    } else if (call == Start::maybe || block == Start::maybe) {
      return {Start::maybe, at, 0};
    }
  }
  return {};
}

// The first `size` bytes are content. White space at their end is so only if more content follows.
void ToolCallParser::give_content(AnswerPieces& delta, std::size_t size) {
  const std::string_view text = std::string_view(held_).substr(0, size);
  const std::size_t last = text.find_last_not_of(white_space);
  if (last == std::string_view::npos) {
    space_ += text;
  } else {
    may_open_bare_ = false;
    delta.add_content(std::exchange(space_, std::string(text.substr(last + 1))));
    delta.add_content(text.substr(0, last + 1));
  }
  held_.erase(0, size);
}

// ---- The head of a call ----------------------------------------------------------------------

// `before`: bytes in front that belong to no call, if this is one.
void ToolCallParser::open_call(std::size_t before, std::size_t size, bool tagged) {
  state_ = State::head;
  is_tagged_ = tagged;
  opening_ = held_.substr(0, before + size);
  held_.erase(0, before + size);
  // A grammar for the call begins with its own tag, not with that of the block.
  opened_text_ = tagged ? std::string(tags_.call_open) : std::string();
  scanner_ = JsonScanner();
  scanned_ = 0;
  outer_depth_ = 0;
}

bool ToolCallParser::pass_head(AnswerPieces& delta, bool ended) {
  Head head = match_head();
  switch (head.kind) {
    case Head::Kind::need_more:
      if (!ended) return false;
      break;
    case Head::Kind::whole:
      if (take_whole_object(delta)) return true;
      if (state_ == State::head && !ended && held_.size() < max_held_bytes &&
          !scanner_.is_broken()) {
        return false;
      }
      if (state_ != State::head) return true;
      break;
    case Head::Kind::arguments:
      scanner_ = JsonScanner();
      if (style_ == ToolStyle::qwen3_coder) {
        xml_.emplace(*find_tool(head.name));
      } else if (style_ != ToolStyle::deepseek) {
        for (const char byte : held_.substr(0, head.size)) scanner_.feed(byte);
      }
      outer_depth_ = scanner_.depth();
      scanned_ = 0;
      drop(head.size);
      begin_call(delta, std::move(head.name));
      state_ = State::arguments;
      return true;
    case Head::Kind::none:
      break;
  }
  give_head_back(delta);
  return true;
}

void ToolCallParser::give_head_back(AnswerPieces& delta) {
  state_ = State::content;
  scanned_ = 0;
  held_.insert(0, opening_);
  // What opened the call must not open it again: its tag, the first byte of <function=, or the
  // brace of a bare one, to which the state below sees.
  const bool is_function = opening_.empty() && style_ == ToolStyle::qwen3_coder;
  give_content(delta, is_function ? 1 : opening_.size());
  may_open_bare_ = false;
  opening_.clear();
  opened_text_.clear();
}

// True once the object was complete and was a call.
bool ToolCallParser::take_whole_object(AnswerPieces& delta) {
  while (scanned_ < held_.size() && !scanner_.is_broken()) {
    scanner_.feed(held_[scanned_++]);
    if (scanner_.depth() > 0 || held_[scanned_ - 1] != '}') continue;
    const auto call =
        ordered_json::parse(held_.begin(), held_.begin() + static_cast<long>(scanned_), nullptr,
                            /*allow_exceptions=*/false);
    const bool is_named = call.is_object() && call.contains("name") && call["name"].is_string() &&
                          find_tool(call["name"].get_ref<const std::string&>()) != nullptr;
    std::optional<std::string> arguments;
    if (is_named) arguments = arguments_text(call);
    if (!arguments) {
      give_head_back(delta);
      return false;
    }
    begin_call(delta, call["name"].get<std::string>());
    delta.add_call({begun_ - 1, /*begins=*/false, {}, std::move(*arguments)});
    drop(scanned_);
    scanned_ = 0;
    outer_depth_ = 0;
    state_ = State::tail;
    return true;
  }
  return false;
}

ToolCallParser::Head ToolCallParser::match_head() const {
  if (style_ == ToolStyle::qwen3_coder) return match_xml_head();
  return style_ == ToolStyle::deepseek ? match_deepseek_head() : match_json_head();
}

// {"name": "known", "arguments": { — or with members that are strings in between.
ToolCallParser::Head ToolCallParser::match_json_head() const {
  using Kind = Head::Kind;
  const std::string_view text = held_;
  const Head more = {Kind::need_more, {}, 0};
  std::size_t at = skip(text, 0);
  if (at == text.size()) return more;
  if (text[at] != '{') return {};
  std::string name;
  // The string that begins at `at`, without its quotes; nullopt while it is not complete.
  const auto string_at = [&]() -> std::optional<std::string_view> {
    std::size_t end = at + 1;
    while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
    if (end >= text.size()) return std::nullopt;
    return text.substr(at + 1, end - at - 1);
  };
  while (true) {
    at = skip(text, at + 1);
    if (at == text.size()) return more;
    if (text[at] != '"') return {};
    const auto key = string_at();
    if (!key) return text.size() - at > 16 ? Head{} : more;
    at = skip(text, at + key->size() + 2);
    if (at == text.size()) return more;
    if (text[at] != ':') return {};
    at = skip(text, at + 1);
    if (at == text.size()) return more;
    const bool is_arguments = *key == "arguments" || *key == "parameters";
    if (is_arguments) {
      if (text[at] != '{' && text[at] != '"') return {};
      if (name.empty() || text[at] == '"') return {Kind::whole, {}, 0};
      return {Kind::arguments, name, at};
    }
    if (*key != "name" && *key != "type" && *key != "id") return {};
    if (text[at] != '"') return {};
    const auto value = string_at();
    if (*key == "name") {
      if (!value) return knows_beginning(text.substr(at + 1)) ? more : Head{};
      if (find_tool(*value) == nullptr) return {};
      name = *value;
    } else if ((value ? value->size() : text.size() - at - 1) >= max_member_bytes) {
      return {};
    } else if (!value) {
      return more;
    }
    at = skip(text, at + value->size() + 2);
    if (at == text.size()) return more;
    if (text[at] == '}') return name.empty() ? Head{} : Head{Kind::whole, {}, 0};
    if (text[at] != ',') return {};
  }
}

// function<sep>known\n```json\n{ as R1 writes it, or known<sep>{ as V3.1 does.
ToolCallParser::Head ToolCallParser::match_deepseek_head() const {
  using Kind = Head::Kind;
  const std::string_view text = held_;
  const Head more = {Kind::need_more, {}, 0};
  std::size_t at = skip(text, 0);
  const auto name_at = [&] {
    std::size_t end = at;
    while (end < text.size() && is_name_byte(text[end])) ++end;
    return text.substr(at, end - at);
  };
  const std::string_view kind = name_at();
  if (kind != "function" && !knows_beginning(kind) &&
      !std::string_view("function").starts_with(kind)) {
    return {};
  }
  at += kind.size();
  const Start separates = starts_with(text.substr(at), tags_.separator, /*ended=*/false);
  if (separates == Start::maybe) return more;
  if (separates == Start::no) return {};
  at += tags_.separator.size();
  std::string_view name = kind;
  if (kind == "function") {
    at = skip(text, at);
    name = name_at();
    at += name.size();
    if (at == text.size()) return knows_beginning(name) ? more : Head{};
  }
  if (find_tool(name) == nullptr) return {};
  at = skip(text, at);
  for (const std::string_view fence : {std::string_view("```json"), std::string_view("```")}) {
    const Start fenced = starts_with(text.substr(at), fence, /*ended=*/false);
    if (fenced == Start::maybe) return more;
    if (fenced == Start::no) continue;
    at = skip(text, at + fence.size());
    break;
  }
  if (at == text.size()) return more;
  if (text[at] != '{') return {};
  return {Kind::arguments, std::string(name), at};
}

// <function=known> and, behind white space, a parameter or the end.
ToolCallParser::Head ToolCallParser::match_xml_head() const {
  using Kind = Head::Kind;
  const std::string_view text = held_;
  const Head more = {Kind::need_more, {}, 0};
  std::size_t at = skip(text, 0);
  if (at > max_member_bytes) return {};
  const Start opens = starts_with(text.substr(at), qwen3_coder::function_open, /*ended=*/false);
  if (opens == Start::maybe) return more;
  if (opens == Start::no) return {};
  at += qwen3_coder::function_open.size();
  const std::size_t end = text.find(qwen3_coder::name_end, at);
  const std::string_view name = text.substr(at, std::min(end, text.size()) - at);
  if (end == std::string_view::npos) return knows_beginning(name) ? more : Head{};
  if (find_tool(name) == nullptr) return {};
  const std::size_t behind = skip(text, end + 1);
  if (behind - end > max_member_bytes) return {};
  for (const std::string_view tag : {qwen3_coder::parameter_open, qwen3_coder::function_close}) {
    const Start begins = starts_with(text.substr(behind), tag, /*ended=*/false);
    if (begins == Start::maybe) return more;
    if (begins == Start::yes) return {Kind::arguments, std::string(name), end + 1};
  }
  return {};
}

const CallableTool* ToolCallParser::find_tool(std::string_view name) const {
  const auto found = std::ranges::find(tools_, name, &CallableTool::name);
  return found == tools_.end() ? nullptr : &*found;
}

bool ToolCallParser::knows_beginning(std::string_view name) const {
  return std::ranges::any_of(
      tools_, [&](const CallableTool& known) { return known.name.starts_with(name); });
}

// ---- Arguments and the end of a call ---------------------------------------------------------

void ToolCallParser::begin_call(AnswerPieces& delta, std::string name) {
  space_.clear();
  delta.add_call({begun_++, /*begins=*/true, std::move(name), {}});
  may_open_bare_ = true;
}

void ToolCallParser::give_arguments(AnswerPieces& delta, std::size_t size) {
  if (size == 0) return;
  delta.add_call({begun_ - 1, /*begins=*/false, {}, held_.substr(0, size)});
  drop(size);
}

void ToolCallParser::drop(std::size_t size) {
  opened_text_ += std::string_view(held_).substr(0, size);
  held_.erase(0, size);
}

bool ToolCallParser::pass_arguments(AnswerPieces& delta, bool ended) {
  std::size_t size = 0;
  while (size < held_.size() && !scanner_.is_broken()) {
    scanner_.feed(held_[size]);
    if (scanner_.is_broken()) break;
    ++size;
    if (scanner_.depth() > outer_depth_ || scanner_.in_string()) continue;
    give_arguments(delta, size);
    state_ = State::tail;
    return true;
  }
  if (!scanner_.is_broken()) {
    give_arguments(delta, size);
    return false;
  }
  // No JSON from `size` on: all up to the closing tag. One in front may have been given out
  // already, as part of what was a string.
  const std::string_view close = is_tagged_ ? tags_.call_close : std::string_view();
  const std::size_t found = close.empty() ? std::string::npos : held_.find(close, size);
  if (found != std::string::npos) {
    give_arguments(delta, found);
    state_ = State::tail;
    outer_depth_ = 0;
    return true;
  }
  std::size_t held_back = 0;
  const std::size_t most = std::min(held_.size() - size, close.empty() ? 0 : close.size() - 1);
  for (std::size_t n = most; n > 0; --n) {
    if (!ended && held_.ends_with(close.substr(0, n))) {
      held_back = n;
      break;
    }
  }
  give_arguments(delta, held_.size() - held_back);
  return false;
}

bool ToolCallParser::pass_xml_arguments(AnswerPieces& delta, bool ended) {
  std::string arguments;
  drop(xml_->take(held_, ended, arguments));
  if (!arguments.empty()) {
    delta.add_call({begun_ - 1, /*begins=*/false, {}, std::move(arguments)});
  }
  if (!xml_->is_complete()) return false;
  xml_.reset();
  state_ = State::tail;
  return true;
}

bool ToolCallParser::pass_tail(bool ended) {
  if (outer_depth_ > 0 && !pass_members_after_arguments(ended)) return false;
  const bool is_json = style_ != ToolStyle::qwen3_coder;
  // Without JSON, the tag is often left out in front of a call, but not behind it.
  const std::string_view close = is_tagged_ || !is_json ? tags_.call_close : std::string_view();
  if (close.empty()) {
    end_call();
    return !held_.empty() || ended;
  }
  const std::size_t at = skip(held_, 0, is_json ? closing_noise : white_space);
  const std::string_view rest = std::string_view(held_).substr(at);
  const Start closes = starts_with(rest, close, ended);
  if (closes == Start::maybe) return false;
  if (closes == Start::yes) {
    drop(at + close.size());
  } else if (ended && close.starts_with(rest)) {
    held_.clear();
  }
  end_call();
  return true;
}

// The end of the object around the arguments, which may have more members. False where more must be
// seen.
bool ToolCallParser::pass_members_after_arguments(bool ended) {
  const std::size_t first = skip(held_, 0);
  if (first == held_.size() && !ended) return false;
  const bool goes_on = first < held_.size() && (held_[first] == '}' || held_[first] == ',');
  JsonScanner scanner = scanner_;
  std::size_t size = 0;
  while (goes_on && size < held_.size() && scanner.depth() > 0 && !scanner.is_broken()) {
    scanner.feed(held_[size++]);
  }
  if (scanner.depth() == 0 && !scanner.is_broken()) {
    drop(size);
  } else if (goes_on && !scanner.is_broken() && !ended && size < max_members_bytes) {
    return false;
  }
  outer_depth_ = 0;  // else its brace is missing
  return true;
}

void ToolCallParser::end_call() {
  ++ended_;
  state_ = State::content;
  may_open_bare_ = true;
}

}  // namespace ridge::text
