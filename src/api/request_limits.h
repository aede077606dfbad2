#pragma once

#include <cstddef>

namespace ridge::api {

// What one request may hold, whatever its wire format.
inline constexpr std::size_t max_messages = 4096;  // or items
inline constexpr std::size_t max_parts = 4096;     // of one message
inline constexpr std::size_t max_tools = 128;
inline constexpr std::size_t max_tool_calls = 128;  // of one message
inline constexpr std::size_t max_name_bytes = 256;  // of a role, a type, an id
inline constexpr std::size_t max_function_name_bytes = 128;
inline constexpr std::size_t max_text_bytes = std::size_t{16}
                                              << 20;  // the body's own limit is lower

}  // namespace ridge::api
