#include "platform/backup/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "platform/backup/client_files.h"
#include "platform/folder.h"

namespace ridge::platform::backup {
namespace {

using Json = nlohmann::ordered_json;

// Grows where an older ridge would misread what a newer one has written.
constexpr int form = 1;

constexpr std::string_view spool_start = "metering/", spool_end = ".spool";

bool is_spool_member(std::string_view member) {
  return member.starts_with(spool_start) && member.ends_with(spool_end) &&
         is_file_name(member.substr(spool_start.size()));
}

[[noreturn]] void refuse(const std::string& why) {
  throw Error(ErrorCode::invalid_file, fmt::format("{}: {}", manifest_member, why));
}

}  // namespace

std::string database_member(DatabaseKind kind) {
  return kind == DatabaseKind::sqlite ? "platform.db" : "platform.pgdump";
}

std::string_view name(DatabaseKind kind) {
  return kind == DatabaseKind::sqlite ? "SQLite" : "PostgreSQL";
}

std::string manifest_text(const BackupManifest& manifest) {
  Json files = Json::array();
  for (const BackupFile& file : manifest.files) {
    files.push_back(
        {{"name", file.member}, {"bytes", file.bytes}, {"sha256", file.digest.to_string()}});
  }
  const Json json = {{"ridge_backup", form},
                     {"ridge_version", manifest.ridge_version},
                     {"database", name(manifest.kind)},
                     {"schema_version", manifest.schema_version},
                     {"taken_at_ms", manifest.taken_at_ms},
                     {"files", files}};
  return json.dump(2) + "\n";
}

BackupManifest parse_manifest(std::string_view text) {
  BackupManifest manifest;
  try {
    const Json json = Json::parse(text);
    const int64_t found = json.at("ridge_backup");
    manifest.ridge_version = json.at("ridge_version");
    if (found != form) {
      refuse(fmt::format("a backup of form {} by ridge {}; this program reads form {}", found,
                         manifest.ridge_version, form));
    }
    const std::string database = json.at("database");
    if (database != name(DatabaseKind::sqlite) && database != name(DatabaseKind::postgresql)) {
      refuse(fmt::format("'{}' is no database that is known", database));
    }
    manifest.kind = database == name(DatabaseKind::sqlite) ? DatabaseKind::sqlite
                                                           : DatabaseKind::postgresql;
    manifest.schema_version = json.at("schema_version");
    manifest.taken_at_ms = json.at("taken_at_ms");
    for (const Json& each : json.at("files")) {
      manifest.files.push_back({each.at("name"), each.at("bytes"),
                                Digest::parse_or_throw(each.at("sha256").get<std::string>(),
                                                       manifest_member)});
    }
  } catch (const Json::exception& failure) {
    refuse(failure.what());
  }
  const auto& files = manifest.files;
  if (files.empty() || files.front().member != database_member(manifest.kind)) {
    refuse("the database is not its first file");
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const bool is_known =
        i == 0 || is_spool_member(files[i].member) || is_client_file(files[i].member);
    if (files[i].bytes < 0 || !is_known) {
      refuse(fmt::format("'{}' is no file of a backup", files[i].member));
    }
  }
  return manifest;
}

BackupFile measured(std::string member, const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    throw DiskError(fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
  }
  const int64_t bytes = status_of(file.get()).size_bytes;
  Hasher hasher;
  hash_file(file.get(), bytes, hasher);
  return {std::move(member), bytes, hasher.finish()};
}

}  // namespace ridge::platform::backup
