#include "platform/manifest_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace ridge::platform {
namespace {

using Json = nlohmann::ordered_json;

constexpr int format_version = 1;
constexpr size_t max_files = 1000;

StoredFile file_from_json(const Json& json, std::string_view where) {
  StoredFile file{.file_name = json.at("file").get<std::string>(),
                  .digest = Digest::parse_or_throw(json.at("sha256").get<std::string>(), where),
                  .size_bytes = json.at("size_bytes").get<int64_t>(),
                  .mtime_ns = json.at("mtime_ns").get<int64_t>(),
                  .inode = json.at("inode").get<uint64_t>()};
  if (!is_file_name(file.file_name)) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: '{}' is no file name", where, file.file_name));
  }
  return file;
}

}  // namespace

std::string manifest_file_name(std::string_view model_name) {
  std::string file_name;
  bool valid = !model_name.empty() && model_name.find("..") == model_name.npos;
  for (const char c : model_name) {
    if (c == '/' || c == ':') {
      file_name += c == '/' ? "%2F" : "%3A";
      continue;
    }
    valid = valid && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-');
    file_name += c;
  }
  if (!valid || file_name.starts_with('.') || file_name.size() > 240) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no name for a model", model_name.substr(0, 200)));
  }
  return file_name + ".json";
}

std::string manifest_to_json(const Manifest& manifest) {
  Json files = Json::array();
  for (const StoredFile& file : manifest.files) {
    files.push_back({{"file", file.file_name},
                     {"sha256", file.digest.to_string()},
                     {"size_bytes", file.size_bytes},
                     {"mtime_ns", file.mtime_ns},
                     {"inode", file.inode}});
  }
  const Json json = {{"version", format_version},
                     {"name", manifest.name},
                     {"title", manifest.title},
                     {"quantization", manifest.quantization},
                     {"license", manifest.license},
                     {"license_note", manifest.license_note},
                     {"source", manifest.source},
                     {"pulled_at_s", manifest.pulled_at_s},
                     {"files", files}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Manifest manifest_from_json(std::string_view text, std::string_view file_name) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version").get<int>() != format_version) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} was written by another version of ridge", file_name));
    }
    Manifest manifest{.name = json.at("name").get<std::string>(),
                      .title = json.at("title").get<std::string>(),
                      .quantization = json.at("quantization").get<std::string>(),
                      .license = json.at("license").get<std::string>(),
                      .license_note = json.at("license_note").get<std::string>(),
                      .source = json.at("source").get<std::string>(),
                      .pulled_at_s = json.at("pulled_at_s").get<int64_t>()};
    for (const Json& file : json.at("files"))
      manifest.files.push_back(file_from_json(file, file_name));
    if (manifest.files.empty() || manifest.files.size() > max_files) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} lists {} files", file_name, manifest.files.size()));
    }
    return manifest;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::invalid_file, fmt::format("{} is damaged: {}", file_name, error.what()));
  }
}

}  // namespace ridge::platform
