#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "platform/database/connection.h"
#include "platform/digest.h"

namespace ridge::platform {

struct BackupFile {
  std::string member;  // its name in the archive
  int64_t bytes = 0;
  Digest digest;
};

// What an archive says of itself, in its member manifest.json. The database comes first, then the
// spools of the servers of the data folder, and files of clients where they were wanted.
struct BackupManifest {
  std::string ridge_version;  // that made it
  DatabaseKind kind = DatabaseKind::sqlite;
  int64_t schema_version = 0;
  int64_t taken_at_ms = 0;  // since 1970
  std::vector<BackupFile> files;
};

namespace backup {

inline constexpr const char* manifest_member = "manifest.json";

// "platform.db", or for PostgreSQL pg_dump's custom format.
std::string database_member(DatabaseKind kind);
std::string_view name(DatabaseKind kind);  // "SQLite"

std::string manifest_text(const BackupManifest& manifest);
// Throws invalid_file for what is no manifest, or one of a later form.
BackupManifest parse_manifest(std::string_view text);

// A file as it goes into an archive. Throws DiskError.
BackupFile measured(std::string member, const std::filesystem::path& path);

}  // namespace backup
}  // namespace ridge::platform
