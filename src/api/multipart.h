#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::api {

// One field of a form.
struct FormPart {
  std::string name;
  std::optional<std::string> file_name;  // of a file; whatever the client calls it
  std::string_view content;              // within the body
};

// The parts of a body of type multipart/form-data (RFC 7578), in order. Throws invalid_argument
// that says what is wrong: another type, no boundary, a part without a name or end, more than 32
// parts. `body` must outlive what is returned.
std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body);

// The content of the one part with this name that is no file; nullopt where there is none. Throws
// invalid_argument where there are several, or it is longer than `most_bytes`.
std::optional<std::string> form_value(const std::vector<FormPart>& parts, std::string_view name,
                                      std::size_t most_bytes);

}  // namespace ridge::api
