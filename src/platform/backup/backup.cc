#include "platform/backup/backup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <soci/soci.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "platform/backup/client_files.h"
#include "platform/backup/postgresql_tools.h"
#include "platform/backup/unpack.h"
#include "platform/backup/work_folder.h"
#include "platform/database/schema.h"
#include "platform/folder.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"
#include "platform/zip_file.h"

namespace ridge::platform {
namespace {

using backup::WorkFolder;

// For what another process has locked; a statement may take as long as it needs.
constexpr DatabasePatience backup_patience{.wait = std::chrono::seconds(10), .most_statement = {}};

// Of what the database has now. Without Database, which would bring the schema forward.
std::unique_ptr<soci::session> open_source(const DatabaseLocation& location) {
  if (location.kind == DatabaseKind::sqlite && !std::filesystem::exists(location.text)) {
    throw Error(ErrorCode::not_found, fmt::format("there is no database {}", location.name));
  }
  auto session = connect(location);
  set_up(*session, location, backup_patience);
  return session;
}

void copy_sqlite(soci::session& session, const std::filesystem::path& copy) {
  // SQLite writes into an empty file, and would make one for everybody to read.
  const FileDescriptor file(::open(copy.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!file) {
    throw DiskError(fmt::format("cannot make {}: {}", copy.string(), std::strerror(errno)));
  }
  const std::string path = copy.string();
  session << "VACUUM INTO :path", soci::use(path);
}

// By what waits in them. Taken before the database: what a server has moved into it meanwhile is
// then in both, and settling twice does nothing.
std::vector<std::pair<BackupFile, std::filesystem::path>> copy_spools(
    const std::filesystem::path& folder, const WorkFolder& work) {
  std::vector<std::pair<BackupFile, std::filesystem::path>> copies;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (entry.path().extension() != ".spool" || entry.file_size(failure) == 0) continue;
    const std::string name = entry.path().filename();
    const std::filesystem::path copy = work / name;
    std::filesystem::copy_file(entry.path(), copy, failure);
    if (failure) {
      throw DiskError(fmt::format("cannot read {}: {}", entry.path().string(), failure.message()));
    }
    copies.emplace_back(backup::measured("metering/" + name, copy), copy);
  }
  std::ranges::sort(copies, {}, [](const auto& each) { return each.first.member; });
  return copies;
}

void record(soci::session& session, DatabaseKind kind, const BackupManifest& manifest,
            std::string_view actor) {
  const nlohmann::json details = {{"taken_at_ms", manifest.taken_at_ms},
                                  {"sha256", manifest.files.front().digest.to_string()}};
  begin_write(session, kind, Durability::on_return);
  rows::record_event(session, Identity::wall_clock_ms(), actor, "backup.take", "", details.dump());
  session << "COMMIT";
}

// Under its name only where that is free, so that no archive is lost to a later one.
void publish(const std::filesystem::path& draft, const std::filesystem::path& file) {
  backup::sync_file(draft);
  if (::link(draft.c_str(), file.c_str()) != 0) {
    const ErrorCode code = errno == EEXIST ? ErrorCode::already_exists : ErrorCode::io;
    throw Error(code, fmt::format("cannot make {}: {}", file.string(), std::strerror(errno)));
  }
  backup::sync_file(file);
}

FileDescriptor open_archive(const std::filesystem::path& file) {
  FileDescriptor archive(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!archive) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::not_found : ErrorCode::io;
    throw Error(code, fmt::format("cannot read {}: {}", file.string(), std::strerror(errno)));
  }
  return archive;
}

}  // namespace

void backup::check_sqlite(const std::filesystem::path& file) {
  const DatabaseLocation location = DatabaseLocation::parse(file.string());
  try {
    const auto session = connect(location);
    std::string answer;
    *session << "PRAGMA integrity_check(1)", soci::into(answer);
    if (answer == "ok") return;
    throw Error(ErrorCode::invalid_file, fmt::format("the database is damaged: {}", answer));
  } catch (const soci::soci_error& failure) {
    throw database_error(failure, location);
  }
}

BackupManifest back_up(const BackupSource& source, const std::filesystem::path& file,
                       std::string_view actor) {
  if (std::filesystem::exists(file)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("{} exists; choose another name", file.string()));
  }
  const DatabaseLocation location = DatabaseLocation::parse(source.database);
  const WorkFolder work(file);
  try {
    const auto session = open_source(location);
    BackupManifest manifest{.ridge_version = source.ridge_version,
                            .kind = location.kind,
                            .schema_version = schema_version(*session, location.kind)};
    if (manifest.schema_version == 0) {
      throw Error(ErrorCode::not_found,
                  fmt::format("there is nothing of ridge in the database {}", location.name));
    }
    backup::HeldResults results;
    if (!source.files_folder.empty()) results = backup::hold_results(source.files_folder);
    const auto spools = copy_spools(source.spool_folder, work);
    manifest.taken_at_ms = Identity::wall_clock_ms();
    const std::string member = backup::database_member(location.kind);
    const std::filesystem::path copy = work / member;
    if (location.kind == DatabaseKind::sqlite) {
      copy_sqlite(*session, copy);
      backup::check_sqlite(copy);
    } else {
      backup::dump_postgresql(location, copy);
    }
    manifest.files.push_back(backup::measured(member, copy));
    std::vector<ZipEntry> entries = {{.member = member, .path = copy, .text = {}}};
    const auto add = [&](const auto& copies) {
      for (const auto& [about, path] : copies) {
        manifest.files.push_back(about);
        entries.push_back({.member = about.member, .path = path, .text = {}});
      }
    };
    add(spools);
    if (!source.files_folder.empty()) {
      add(backup::copy_client_files(source.files_folder, std::move(results), work));
    }
    entries.insert(
        entries.begin(),
        {.member = backup::manifest_member, .path = {}, .text = backup::manifest_text(manifest)});
    const std::filesystem::path draft = work / "archive";
    write_zip(draft, entries);
    publish(draft, file);
    record(*session, location.kind, manifest, actor);
    return manifest;
  } catch (const soci::soci_error& failure) {
    throw database_error(failure, location);
  }
}

BackupManifest backup::unpack(const std::filesystem::path& file, const TakeFile& target_of) {
  const FileDescriptor archive = open_archive(file);
  try {
    constexpr int64_t most_manifest_bytes = 64 << 20;  // of many files
    const int64_t bytes = zip_member_bytes(archive.get(), manifest_member);
    if (bytes > most_manifest_bytes) throw Error(ErrorCode::invalid_file, "it is too large");
    std::string text;
    read_zip_member(archive.get(), manifest_member, bytes, [&](std::span<const std::byte> part) {
      text.append(reinterpret_cast<const char*>(part.data()), part.size());
    });
    BackupManifest manifest = parse_manifest(text);
    for (const BackupFile& each : manifest.files) {
      const std::filesystem::path target = target_of(each);
      FileDescriptor out;
      if (!target.empty()) {
        out = FileDescriptor(::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!out) {
          throw DiskError(fmt::format("cannot make {}: {}", target.string(), std::strerror(errno)));
        }
      }
      Hasher hasher;
      read_zip_member(archive.get(), each.member, each.bytes, [&](std::span<const std::byte> part) {
        hasher.update(part);
        if (out) write_all(out.get(), part, target.string());
      });
      if (const Digest found = hasher.finish(); found != each.digest) {
        throw Error(ErrorCode::invalid_file,
                    fmt::format("{} has the digest {} and not {}, as is stated: it was changed or "
                                "is damaged",
                                each.member, found.to_string(), each.digest.to_string()));
      }
    }
    return manifest;
  } catch (const Error& failure) {
    if (failure.code() != ErrorCode::invalid_file) throw;
    throw Error(ErrorCode::invalid_file, fmt::format("{} is no backup that can be used: {}",
                                                     file.string(), failure.message()));
  }
}

BackupManifest check_backup(const std::filesystem::path& file) {
  return backup::unpack(file, [](const BackupFile&) { return std::filesystem::path(); });
}

}  // namespace ridge::platform
