#pragma once

#include <cstddef>
#include <string>

namespace ridge::text {

// Follows the brackets and strings of a JSON text byte by byte, to know where a value ends. Does
// not check what stands between them.
class JsonScanner {
 public:
  static constexpr std::size_t max_depth = 512;

  void feed(char byte);

  // Open brackets; a value that began with one has ended when it is 0 again.
  std::size_t depth() const { return open_.size(); }
  bool in_string() const { return in_string_; }
  // A bracket closed another than the last one, more than max_depth were open, or a byte stood
  // outside of strings that JSON has only inside. Then nothing changes any more.
  bool is_broken() const { return is_broken_; }

 private:
  void close(char opening);

  std::string open_;  // the opening brackets
  bool in_string_ = false;
  bool escaped_ = false;
  bool is_broken_ = false;
};

}  // namespace ridge::text
