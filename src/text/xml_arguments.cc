#include "text/xml_arguments.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_escape.h"
#include "base/trimmed.h"
#include "text/parameter_schema.h"
#include "text/qwen3_coder.h"
#include "text/tag_start.h"
#include "text/tool_style.h"

namespace ridge::text {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t max_space_bytes = 256;  // between two tags

std::string_view call_close() { return tags_of(ToolStyle::qwen3_coder).call_close; }

// The position of what follows white space; npos where that is too long for tags to follow.
std::size_t behind_space(std::string_view text, std::size_t at) {
  const std::size_t next = std::min(text.find_first_not_of(white_space, at), text.size());
  return next - at > max_space_bytes ? std::string_view::npos : next;
}

// Whether any of `tags` stands in `text` at `at`, behind white space; the end counts as one.
Start any_follows(std::string_view text, std::size_t at, bool ended,
                  std::initializer_list<std::string_view> tags) {
  at = behind_space(text, at);
  if (at == std::string_view::npos) return Start::no;
  if (at == text.size()) return ended ? Start::yes : Start::maybe;
  Start any = Start::no;
  for (const std::string_view tag : tags) {
    const Start one = starts_with(text.substr(at), tag, ended);
    if (one == Start::yes) return one;
    if (one == Start::maybe) any = one;
  }
  return any;
}

// As the inside of a JSON string.
void add_escaped(std::string_view text, std::string& json) {
  for (const char byte : text) {
    if (is_plain_in_json(byte)) {
      json += byte;
    } else {
      append_json_escaped(json, byte);
    }
  }
}

std::string_view without_line_break(std::string_view value) {
  if (value.ends_with('\n')) value.remove_suffix(1);
  return value;
}

ValueTypes type_of_text(std::string_view json) {
  switch (json.front()) {
    case '{':
      return object_value;
    case '[':
      return array_value;
    case '"':
      return string_value;
    case 't':
    case 'f':
      return boolean_value;
    case 'n':
      return null_value;
    default:
      return number_value;
  }
}

// A value that may be of other types than string, as JSON.
void add_value(std::string_view value, ValueTypes types, std::string& json) {
  std::string_view text = trimmed(value, white_space);
  if (text == "True") text = "true";
  if (text == "False") text = "false";
  if (text == "None") text = "null";
  const bool is_json = ordered_json::accept(text);
  const bool may_be_string = (types & string_value) != 0;
  // A string stands without quotes: one with them has them inside.
  const bool fits =
      is_json && type_of_text(text) != string_value && (types & type_of_text(text)) != 0;
  if (fits || (is_json && !may_be_string)) {
    json += text;
    return;
  }
  json += '"';
  add_escaped(value, json);
  json += '"';
}

}  // namespace

struct XmlArguments::Close {
  Start start = Start::no;
  std::size_t at = 0;    // where the tag stands or may begin; else where the text ends
  std::size_t size = 0;  // of it; 0 where it is missing
};

std::size_t XmlArguments::take(std::string_view text, bool ended, std::string& json) {
  taken_ = 0;
  bool goes_on = true;
  while (goes_on) {
    const std::string_view rest = text.substr(taken_);
    switch (state_) {
      case State::between:
        goes_on = pass_between(rest, ended, json);
        break;
      case State::value:
        goes_on = pass_value(rest, ended, json);
        break;
      case State::string:
        goes_on = pass_string(rest, ended, json);
        break;
      case State::complete:
        goes_on = false;
        break;
    }
  }
  return taken_;
}

void XmlArguments::complete(std::string& json) {
  json += has_parameters_ ? "}" : "{}";
  state_ = State::complete;
}

// Whatever is no parameter ends the object.
bool XmlArguments::pass_between(std::string_view text, bool ended, std::string& json) {
  const std::size_t at = std::min(text.find_first_not_of(white_space), text.size());
  if (at == text.size()) {
    if (ended) complete(json);
    return false;
  }
  const std::string_view rest = text.substr(at);
  const Start closes = starts_with(rest, qwen3_coder::function_close, ended);
  if (closes == Start::yes) taken_ += at + qwen3_coder::function_close.size();
  const Start opens = starts_with(rest, qwen3_coder::parameter_open, ended);
  if (closes == Start::maybe || opens == Start::maybe) return false;
  if (opens == Start::no) {
    complete(json);
    return false;
  }
  const std::string_view head = rest.substr(qwen3_coder::parameter_open.size());
  const std::size_t end = head.find_first_of("<>\n");
  if (end == std::string_view::npos && !ended && head.size() <= max_key_bytes) return false;
  if (end == std::string_view::npos || head[end] != '>' || end == 0 || end > max_key_bytes) {
    complete(json);
    return false;
  }
  const std::string_view key = head.substr(0, end);
  // The line break that follows is not of the value.
  const std::size_t behind = at + qwen3_coder::parameter_open.size() + end + 1;
  if (behind == text.size() && !ended) return false;
  const bool breaks = behind < text.size() && text[behind] == '\n';
  json += has_parameters_ ? ", \"" : "{\"";
  add_escaped(key, json);
  json += "\": ";
  has_parameters_ = true;
  types_ = tool_.types_of(key);
  taken_ += behind + (breaks ? 1 : 0);
  searched_ = 0;
  state_ = State::value;
  if (types_ == string_value) {
    json += '"';
    state_ = State::string;
  }
  return true;
}

// The first end of a value in `text`, from `from` on.
XmlArguments::Close XmlArguments::find_close(std::string_view text, std::size_t from,
                                             bool ended) const {
  for (std::size_t at = text.find('<', from); at != std::string_view::npos;
       at = text.find('<', at + 1)) {
    const std::string_view rest = text.substr(at);
    Start closes = starts_with(rest, qwen3_coder::parameter_close, ended);
    if (closes == Start::yes) {
      closes =
          any_follows(rest, qwen3_coder::parameter_close.size(), ended,
                      {qwen3_coder::parameter_open, qwen3_coder::function_close, call_close()});
      if (closes != Start::no) return {closes, at, qwen3_coder::parameter_close.size()};
    }
    Start function = starts_with(rest, qwen3_coder::function_close, ended);
    if (function == Start::yes) {
      function = any_follows(rest, qwen3_coder::function_close.size(), ended, {call_close()});
    }
    if (function == Start::yes) return {function, at, 0};
    if (closes == Start::maybe || function == Start::maybe) return {Start::maybe, at, 0};
  }
  return {Start::no, text.size(), 0};
}

bool XmlArguments::pass_value(std::string_view text, bool ended, std::string& json) {
  const Close close = find_close(text, searched_, ended);
  if (close.at > max_value_bytes) {
    json += '"';
    state_ = State::string;
    return true;
  }
  if (close.start != Start::yes) {
    searched_ = close.at;
    if (!ended) return false;
    // Cut off: as it stands.
    json += trimmed(text, white_space);
    taken_ += text.size();
    return false;
  }
  add_value(without_line_break(text.substr(0, close.at)), types_, json);
  taken_ += close.at + close.size;
  state_ = State::between;
  return true;
}

bool XmlArguments::pass_string(std::string_view text, bool ended, std::string& json) {
  const Close close = find_close(text, 0, ended);
  std::string_view value = text.substr(0, close.at);
  if (close.start == Start::yes) {
    add_escaped(without_line_break(value), json);
    json += '"';
    taken_ += close.at + close.size;
    state_ = State::between;
    return true;
  }
  // The last line break may be the one in front of the tag.
  if (!ended) value = without_line_break(value);
  add_escaped(value, json);
  taken_ += value.size();
  return false;
}

}  // namespace ridge::text
