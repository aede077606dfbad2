#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ridge::api {

// RFC 3986, section 2.1; nullopt where an escape is broken.
std::optional<std::string> percent_decode(std::string_view text);

// The value of a name in "a=1&b=2", decoded, "+" as a space; nullopt where it is not there. Throws
// Error(invalid_argument) naming it where its escapes are broken.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace ridge::api
