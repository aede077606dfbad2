#pragma once

#include <toml++/toml.h>

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge {

// The text of a TOML file. Throws invalid_file naming `source`, line and column.
toml::table parse_toml(std::string_view text, std::string_view source);

// One table of a file, read strictly: a key that is not known is an error, so that a typing mistake
// never silently leaves a figure out. All throw invalid_file naming file, line, table and key.
class TomlReader {
 public:
  // what: names the table in messages, as in "device H100".
  TomlReader(const toml::table& table, std::string source, std::string what)
      : table_(table), source_(std::move(source)), what_(std::move(what)) {}

  void call(std::string what) { what_ = std::move(what); }
  [[noreturn]] void refuse(std::string_view message) const;
  void allow_only(std::initializer_list<std::string_view> keys) const;
  bool has(std::string_view key) const { return table_.contains(key); }

  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;
  // From an integer or a float, from `least` to `most`.
  double number(std::string_view key, double least, double most) const;
  double number_or(std::string_view key, double fallback, double least, double most) const;
  int integer(std::string_view key, int least, int most) const;
  int integer_or(std::string_view key, int fallback, int least, int most) const;
  bool flag_or(std::string_view key, bool fallback) const;
  // Of a list of strings; empty where the key is missing.
  std::vector<std::string> texts(std::string_view key) const;
  // Nothing where the key is missing.
  std::optional<TomlReader> table(std::string_view key) const;
  // Calls `each` with a reader for each table of an array of tables; none where it is missing.
  void tables(std::string_view key, const std::function<void(TomlReader)>& each) const;

 protected:
  const toml::table& table_;
  std::string source_;
  std::string what_;
};

}  // namespace ridge
