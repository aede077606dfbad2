#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ridge::api {

// RFC 3986, section 2.1; nullopt where an escape is broken.
std::optional<std::string> percent_decode(std::string_view text);

// Whether it is UTF-8 without a zero byte, as databases take it.
bool is_text(std::string_view text);

// What stands behind the first "?" of an address; "" where there is none.
std::string_view query_of(std::string_view target);

// The value of a name in "a=1&b=2", decoded, "+" as a space; nullopt where it is not there. Throws
// Error(invalid_argument) naming it where its escapes are broken, or it is no text.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

// Likewise of a whole number. Throws also where it is none from `low` to `high`.
std::optional<int64_t> query_number(std::string_view query, std::string_view name, int64_t low,
                                    int64_t high);

// How many items of a list are asked for by `limit`: 1 to 100, else 20. Throws likewise.
std::size_t query_limit(std::string_view query);

}  // namespace ridge::api
