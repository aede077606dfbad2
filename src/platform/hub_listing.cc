#include "platform/hub_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "platform/folder.h"
#include "platform/quantization.h"

namespace ridge::platform {
namespace {

constexpr int max_parts = 500;

std::string_view base_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

// Words between single slashes, none of them "." or "..", nothing that a terminal or shell would
// act on.
bool is_clean_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.find('\\') != path.npos) return false;
  while (true) {
    const size_t slash = path.find('/');
    if (!is_file_name(path.substr(0, slash))) return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_model_file(std::string_view path) {
  const std::string_view name = base_name(path);
  return name.ends_with(".gguf") && !name.starts_with("mmproj") &&
         name.find("-mmproj") == name.npos;
}

// All files that belong to one model file: itself, or its parts.
using Groups =
    std::map<std::string, std::vector<HubFile>>;  // by path without number of part and ".gguf"

Groups group(const std::vector<HubFile>& listing, std::string_view repository) {
  Groups groups;
  for (const HubFile& file : listing) {
    if (!is_model_file(file.path)) continue;
    if (!is_clean_path(file.path)) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} lists a file with the path '{}', which is refused", repository,
                              file.path.substr(0, 200)));
    }
    const PartName part = part_name(base_name(file.path));
    const std::string folder = file.path.substr(0, file.path.size() - base_name(file.path).size());
    groups[fmt::format("{}{}/{}", folder, part.stem, part.parts)].push_back(file);
  }
  return groups;
}

std::vector<HubFile> in_order(std::vector<HubFile> files, std::string_view repository) {
  std::sort(files.begin(), files.end(),
            [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  const int parts = part_name(base_name(files.front().path)).parts;
  bool whole = parts <= max_parts && static_cast<int>(files.size()) == parts;
  for (size_t i = 0; whole && i < files.size(); ++i) {
    whole = part_name(base_name(files[i].path)).part == static_cast<int>(i) + 1;
  }
  if (!whole) {
    throw Error(ErrorCode::invalid_file, fmt::format("{} has not all {} parts of {}", repository,
                                                     parts, files.front().path));
  }
  return files;
}

// The group whose name ends in the quantisation; the plainest (shortest) of several.
const std::vector<HubFile>* find_group(const Groups& groups, std::string_view quantization) {
  const std::vector<HubFile>* best = nullptr;
  for (const auto& [key, files] : groups) {
    if (!has_quantization(base_name(files.front().path), quantization)) continue;
    if (best == nullptr || files.front().path.size() < best->front().path.size()) best = &files;
  }
  return best;
}

std::string quantizations_of(const Groups& groups) {
  std::set<std::string> names;
  for (const auto& [key, files] : groups) {
    const std::string_view file_name = base_name(files.front().path);
    const std::string known = quantization_of(file_name);
    names.insert(known.empty() ? std::string(file_name) : known);
  }
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ", ") + name;
    if (text.size() > 400) return text + ", ...";
  }
  return text;
}

std::optional<Digest> digest_at(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return std::nullopt;
  return Digest::parse(found->get_ref<const std::string&>());
}

}  // namespace

HubChoice choose_files(const std::vector<HubFile>& listing, std::string_view quantization,
                       std::string_view repository) {
  const Groups groups = group(listing, repository);
  if (groups.empty()) {
    throw Error(ErrorCode::not_found, fmt::format("{} holds no GGUF file", repository));
  }
  if (!quantization.empty()) {
    if (const auto* files = find_group(groups, quantization)) {
      return {std::string(quantization), in_order(*files, repository)};
    }
    throw Error(ErrorCode::not_found, fmt::format("{} has no {}; it has {}", repository,
                                                  quantization, quantizations_of(groups)));
  }
  if (groups.size() == 1) {
    const auto& files = groups.begin()->second;
    return {quantization_of(base_name(files.front().path)), in_order(files, repository)};
  }
  for (const std::string_view preferred : preferred_quantizations()) {
    if (const auto* files = find_group(groups, preferred)) {
      return {std::string(preferred), in_order(*files, repository)};
    }
  }
  throw Error(ErrorCode::not_found,
              fmt::format("{} holds several models; write one of {} after a ':'", repository,
                          quantizations_of(groups)));
}

std::vector<HubFile> read_hugging_face_listing(std::string_view text, std::string& commit) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    commit = json.value("sha", "");
    std::vector<HubFile> files;
    for (const nlohmann::json& each : json.at("siblings")) {
      HubFile file{.path = each.at("rfilename").get<std::string>()};
      if (const auto lfs = each.find("lfs"); lfs != each.end() && lfs->is_object()) {
        file.digest = digest_at(*lfs, "sha256");
        file.size_bytes = lfs->value("size", int64_t{0});
      }
      files.push_back(std::move(file));
    }
    return files;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("the hub's list of files is not understood: {}", error.what()));
  }
}

std::vector<HubFile> read_modelscope_listing(std::string_view text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    if (json.value("Code", 200) != 200) {
      throw Error(ErrorCode::not_found,
                  fmt::format("the hub says: {}", json.value("Message", "no message")));
    }
    std::vector<HubFile> files;
    for (const nlohmann::json& each : json.at("Data").at("Files")) {
      if (each.value("Type", "blob") != "blob") continue;
      files.push_back({.path = each.at("Path").get<std::string>(),
                       .size_bytes = each.value("Size", int64_t{0}),
                       .digest = digest_at(each, "Sha256")});
    }
    return files;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("the hub's list of files is not understood: {}", error.what()));
  }
}

}  // namespace ridge::platform
