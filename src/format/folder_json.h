#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ridge::format {

// An object of a JSON file of a model folder, its fields checked against ranges as they are read. A
// field that is null counts as missing. Every message names the file and the field.
class FolderJson {
 public:
  // Reads `path`, of at most `bytes_max`. Throws not_found; invalid_file where it is no JSON
  // object, is larger, or nests deeper or has more values than any real one.
  static FolderJson read(const std::filesystem::path& path, uint64_t bytes_max);
  // As read(), of a text that is there; `source` names it in messages.
  static FolderJson parse(std::string_view text, std::string source);

  const nlohmann::json& body() const { return *body_; }
  const std::string& source() const { return source_; }

  // nullptr where missing.
  const nlohmann::json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  // Throw invalid_file where the field is missing, of another type or out of range.
  int integer(std::string_view key, int least, int most) const;
  int integer_or(std::string_view key, int fallback, int least, int most) const;
  // Above `above`, at most `most`.
  double number(std::string_view key, double above, double most) const;
  double number_or(std::string_view key, double fallback, double above, double most) const;
  bool flag_or(std::string_view key, bool fallback) const;
  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;
  // nullopt where missing.
  std::optional<FolderJson> object(std::string_view key) const;

  [[noreturn]] void refuse(const std::string& reason) const;       // invalid_file
  [[noreturn]] void unsupported(const std::string& reason) const;  // unsupported

 private:
  FolderJson(std::shared_ptr<const nlohmann::json> body, std::string source)
      : body_(std::move(body)), source_(std::move(source)) {}

  // Of an object within another, which lives as long.
  std::shared_ptr<const nlohmann::json> body_;
  std::string source_;
};

}  // namespace ridge::format
