#pragma once

#include <string_view>

namespace ridge::text {

// The tags in which Qwen3-Coder calls a function, inside those of ToolTags around each call (its
// chat template, of July 2025):
//   <function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n … </function>
namespace qwen3_coder {
inline constexpr std::string_view function_open = "<function=";  // NAME and name_end follow
inline constexpr std::string_view function_close = "</function>";
inline constexpr std::string_view parameter_open = "<parameter=";  // KEY and name_end follow
inline constexpr std::string_view parameter_close = "</parameter>";
inline constexpr std::string_view name_end = ">";
}  // namespace qwen3_coder

}  // namespace ridge::text
