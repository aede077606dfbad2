#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace ridge::log {

enum class Level { debug, info, warning, error };

// Lines go to standard error, coloured only on a terminal.
void set_level(Level level);
// One of debug, info, warning, error; throws invalid_argument for others.
Level level_from_name(std::string_view name);
void write(Level level, std::string_view line);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ridge::log
