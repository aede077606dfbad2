#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/json_text.h"

namespace ridge::api {

// Reads the members of one JSON object. An absent member and null are the same: nullopt. A wrong
// type or a number out of its range is Error(invalid_argument), which says what was there and what
// would be right, and whose param is the member's path ("stream_options.include_usage").
class Fields {
 public:
  // `path` stands before each name in errors; empty for the body itself. `object` must outlive
  // this. Throws where `object` is not an object.
  Fields(const Json& object, std::string path);

  // nullptr where absent or null.
  const Json* find(std::string_view name) const;

  std::optional<bool> boolean(std::string_view name) const;
  // A whole number; 3.0 is one.
  std::optional<int64_t> integer(std::string_view name, int64_t low, int64_t high) const;
  // `low` itself is refused where `open_low`.
  std::optional<double> number(std::string_view name, double low, double high,
                               bool open_low = false) const;
  std::optional<std::string> string(std::string_view name, std::size_t max_bytes) const;
  // The same where it must be there.
  std::string required_string(std::string_view name, std::size_t max_bytes) const;
  std::optional<Fields> object(std::string_view name) const;
  // nullptr where absent; else an array of at most `max_size` elements.
  const Json* array(std::string_view name, std::size_t max_size) const;

  std::string path_of(std::string_view name) const;

 private:
  const Json& object_;
  std::string path_;
};

// "a string", "the number 3", "an array" …: what stands there, for error messages.
std::string describe(const Json& value);

// Throws Error(invalid_argument): "PATH is X; it must be WANTED".
[[noreturn]] void refuse_field(const std::string& path, const Json& value, std::string_view wanted);
// Throws Error(invalid_argument) with a message of one's own.
[[noreturn]] void refuse(const std::string& path, const std::string& message);
// "'PATH' is missing".
[[noreturn]] void refuse_missing(const std::string& path);
// Throws Error(unsupported), which is a 400: the field is understood, but cannot be honoured.
[[noreturn]] void refuse_unsupported(const std::string& path, std::string_view message);

}  // namespace ridge::api
