#include "api/url_query.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "api/fields.h"

namespace ridge::api {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

bool is_text(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return false;
  try {
    (void)nlohmann::json(text).dump();  // which is strict
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

std::string_view query_of(std::string_view target) {
  const std::size_t mark = target.find('?');
  return mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
    if (pair.substr(0, pair.find('=')) != name) continue;
    std::string value(pair.size() > name.size() ? pair.substr(name.size() + 1) : "");
    std::ranges::replace(value, '+', ' ');
    auto decoded = percent_decode(value);
    if (!decoded) {
      refuse(std::string(name), fmt::format("'{}' in the address has a broken escape; % must be "
                                            "followed by two hexadecimal digits",
                                            name));
    }
    if (!is_text(*decoded)) {
      refuse(std::string(name),
             fmt::format("'{}' in the address must be UTF-8 without a zero byte", name));
    }
    return decoded;
  }
  return std::nullopt;
}

std::optional<int64_t> query_number(std::string_view query, std::string_view name, int64_t low,
                                    int64_t high) {
  const auto text = query_value(query, name);
  if (!text) return std::nullopt;
  int64_t value = low - 1;
  const auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (failure != std::errc() || end != text->data() + text->size() || value < low || value > high) {
    refuse(std::string(name),
           fmt::format("'{}' must be a whole number from {} to {}", name, low, high));
  }
  return value;
}

std::size_t query_limit(std::string_view query) {
  return static_cast<std::size_t>(query_number(query, "limit", 1, 100).value_or(20));
}

}  // namespace ridge::api
