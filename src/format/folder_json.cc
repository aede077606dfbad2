#include "format/folder_json.h"

#include <fmt/format.h>

#include "base/error.h"
#include "format/mapped_file.h"

namespace ridge::format {

namespace {

using nlohmann::json;

constexpr int json_depth_max = 32;
// Objects and lists; Gemma 3's tokenizer.json has half a million merges, a list each.
constexpr uint64_t json_containers_max = 4'194'304;

}  // namespace

FolderJson FolderJson::read(const std::filesystem::path& path, uint64_t bytes_max) {
  const MappedFile file = MappedFile::open(path);
  const std::string source = path.filename().string();
  if (file.bytes().size() > bytes_max) {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: it has {} bytes; at most {} are read",
                                                     source, file.bytes().size(), bytes_max));
  }
  return parse({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, source);
}

FolderJson FolderJson::parse(std::string_view text, std::string source) {
  uint64_t containers = 0;
  const auto bounded = [&](int depth, json::parse_event_t event, json&) {
    if (event != json::parse_event_t::object_start && event != json::parse_event_t::array_start) {
      return true;
    }
    if (depth > json_depth_max || ++containers > json_containers_max) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: it nests deeper than {} levels or has more than {} lists and "
                              "objects",
                              source, json_depth_max, json_containers_max));
    }
    return true;
  };
  json body = json::parse(text.begin(), text.end(), bounded, /*allow_exceptions=*/false);
  if (!body.is_object()) {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: it is no JSON object", source));
  }
  return {std::make_shared<const json>(std::move(body)), std::move(source)};
}

const json* FolderJson::find(std::string_view key) const {
  const auto at = body_->find(key);
  return at == body_->end() || at->is_null() ? nullptr : &*at;
}

void FolderJson::refuse(const std::string& reason) const {
  throw Error(ErrorCode::invalid_file, fmt::format("{}: {}", source_, reason));
}

void FolderJson::unsupported(const std::string& reason) const {
  throw Error(ErrorCode::unsupported, fmt::format("{}: {}", source_, reason));
}

int FolderJson::integer(std::string_view key, int least, int most) const {
  const json* value = find(key);
  if (value == nullptr) refuse(fmt::format("'{}' is missing", key));
  // Unsigned numbers above 2^63 would wrap in a comparison of the library's.
  const bool is_whole = value->is_number_integer() &&
                        (!value->is_number_unsigned() || value->get<uint64_t>() <= INT64_MAX);
  if (!is_whole || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    refuse(fmt::format("'{}' must be a whole number from {} to {}", key, least, most));
  }
  return value->get<int>();
}

int FolderJson::integer_or(std::string_view key, int fallback, int least, int most) const {
  return has(key) ? integer(key, least, most) : fallback;
}

double FolderJson::number_or(std::string_view key, double fallback, double above,
                             double most) const {
  return has(key) ? number(key, above, most) : fallback;
}

double FolderJson::number(std::string_view key, double above, double most) const {
  const json* value = find(key);
  if (value == nullptr) refuse(fmt::format("'{}' is missing", key));
  const double number = value->is_number() ? value->get<double>() : above;
  if (!(number > above && number <= most)) {
    refuse(fmt::format("'{}' must be a number above {} and up to {}", key, above, most));
  }
  return number;
}

bool FolderJson::flag_or(std::string_view key, bool fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(fmt::format("'{}' must be true or false", key));
  return value->get<bool>();
}

std::string FolderJson::text(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) refuse(fmt::format("'{}' is missing", key));
  if (!value->is_string()) refuse(fmt::format("'{}' must be a string", key));
  return value->get<std::string>();
}

std::string FolderJson::text_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

std::optional<FolderJson> FolderJson::object(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) refuse(fmt::format("'{}' must be an object", key));
  return FolderJson(std::shared_ptr<const json>(body_, value), fmt::format("{}: {}", source_, key));
}

}  // namespace ridge::format
