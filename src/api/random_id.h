#pragma once

#include <string>
#include <string_view>

namespace ridge::api {

// Both draw from the kernel: who knows some ids can tell no others.

// `prefix` followed by 24 random letters and digits.
std::string random_id(std::string_view prefix);

// `bytes` random bytes, not all zero, as lower-case hexadecimal digits; at most 32 bytes.
std::string random_hex(std::size_t bytes);

}  // namespace ridge::api
