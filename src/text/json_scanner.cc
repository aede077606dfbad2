#include "text/json_scanner.h"

#include <string_view>

namespace ridge::text {
namespace {

// Generously: Python's names for values count as well.
bool may_stand_outside_strings(char byte) {
  const bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
  const bool is_digit = byte >= '0' && byte <= '9';
  return is_letter || is_digit ||
         std::string_view(" \t\r\n:,+-._").find(byte) != std::string_view::npos;
}

}  // namespace

void JsonScanner::feed(char byte) {
  if (is_broken_) return;
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (byte == '\\') {
      escaped_ = true;
    } else if (byte == '"') {
      in_string_ = false;
    }
    return;
  }
  switch (byte) {
    case '"':
      in_string_ = true;
      break;
    case '{':
    case '[':
      is_broken_ = open_.size() == max_depth;
      if (!is_broken_) open_ += byte;
      break;
    case '}':
      close('{');
      break;
    case ']':
      close('[');
      break;
    default:
      if (!may_stand_outside_strings(byte)) is_broken_ = true;
      break;
  }
}

void JsonScanner::close(char opening) {
  if (open_.empty() || open_.back() != opening) {
    is_broken_ = true;
  } else {
    open_.pop_back();
  }
}

}  // namespace ridge::text
