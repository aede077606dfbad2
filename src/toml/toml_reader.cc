#include "toml/toml_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace ridge {

toml::table parse_toml(std::string_view text, std::string_view source) {
  try {
    return toml::parse(text, source);
  } catch (const toml::parse_error& error) {
    const auto& at = error.source().begin;
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}:{}:{}: {}", source, at.line, at.column, error.description()));
  }
}

void TomlReader::refuse(std::string_view message) const {
  throw Error(ErrorCode::invalid_file,
              fmt::format("{}:{}: {}: {}", source_, table_.source().begin.line, what_, message));
}

void TomlReader::allow_only(std::initializer_list<std::string_view> keys) const {
  for (const auto& [key, node] : table_) {
    if (std::find(keys.begin(), keys.end(), key.str()) == keys.end()) {
      refuse(fmt::format("unknown key '{}'", key.str()));
    }
  }
}

std::string TomlReader::text(std::string_view key) const {
  std::string value = text_or(key, "");
  if (value.empty()) refuse(fmt::format("'{}' is missing", key));
  return value;
}

std::string TomlReader::text_or(std::string_view key, std::string_view fallback) const {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return std::string(fallback);
  if (const auto* text = node->as_string()) return text->get();
  refuse(fmt::format("'{}' must be a string", key));
}

double TomlReader::number(std::string_view key, double least, double most) const {
  const toml::node* node = table_.get(key);
  if (node == nullptr) refuse(fmt::format("'{}' is missing", key));
  const std::optional<double> value = node->value<double>();
  if (!node->is_number() || !value || !std::isfinite(*value) || *value < least || *value > most) {
    refuse(fmt::format("'{}' must be a number from {:g} to {:g}", key, least, most));
  }
  return *value;
}

double TomlReader::number_or(std::string_view key, double fallback, double least,
                             double most) const {
  return has(key) ? number(key, least, most) : fallback;
}

int TomlReader::integer(std::string_view key, int least, int most) const {
  const double value = number(key, least, most);
  if (value != std::floor(value)) refuse(fmt::format("'{}' must be a whole number", key));
  return static_cast<int>(value);
}

int TomlReader::integer_or(std::string_view key, int fallback, int least, int most) const {
  return has(key) ? integer(key, least, most) : fallback;
}

bool TomlReader::flag_or(std::string_view key, bool fallback) const {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return fallback;
  if (const auto* value = node->as_boolean()) return value->get();
  refuse(fmt::format("'{}' must be true or false", key));
}

std::vector<std::string> TomlReader::texts(std::string_view key) const {
  std::vector<std::string> values;
  const toml::node* node = table_.get(key);
  if (node == nullptr) return values;
  const toml::array* array = node->as_array();
  if (array == nullptr) refuse(fmt::format("'{}' must be a list of strings", key));
  for (const toml::node& element : *array) {
    if (!element.is_string()) refuse(fmt::format("'{}' must be a list of strings", key));
    values.push_back(element.as_string()->get());
  }
  return values;
}

std::optional<TomlReader> TomlReader::table(std::string_view key) const {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return std::nullopt;
  if (!node->is_table()) refuse(fmt::format("'{}' must be a table", key));
  return TomlReader(*node->as_table(), source_, fmt::format("{}: {}", what_, key));
}

void TomlReader::tables(std::string_view key, const std::function<void(TomlReader)>& each) const {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  if (array == nullptr) refuse(fmt::format("'{}' must be a list of tables", key));
  for (const toml::node& element : *array) {
    if (!element.is_table()) refuse(fmt::format("'{}' must be a list of tables", key));
    each(TomlReader(*element.as_table(), source_, std::string(key)));
  }
}

}  // namespace ridge
