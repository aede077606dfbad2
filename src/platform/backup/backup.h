#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "platform/backup/manifest.h"

namespace ridge::platform {

// Archives of what a platform knows: its database, the settlements of its servers that wait for the
// database, and files of clients where they are wanted. Models, configuration and TLS files are not
// in them. (ADR 0031)

struct BackupSource {
  std::string database;                // as Database has it
  std::filesystem::path spool_folder;  // of the data folder's servers; may be missing
  std::filesystem::path files_folder;  // of clients; empty: without them
  std::string ridge_version;
};

// Makes an archive `file`, which must not exist, for its owner alone: one moment of the database,
// taken beside whoever writes, durable on return. The schema stays as it is. Recorded in the audit
// log. Throws not_found where there is no database, already_exists, invalid_file where the
// database is damaged, unavailable where pg_dump is missing, and as Database.
BackupManifest back_up(const BackupSource& source, const std::filesystem::path& file,
                       std::string_view actor);

// What an archive holds, once each of its files was read and has the digest that is stated. Throws
// not_found, invalid_file.
BackupManifest check_backup(const std::filesystem::path& file);

// What may stand in the places that are restored to.
enum class InPlace { nothing, old_database };

struct RestorePlaces {
  std::string database;                // as Database has it
  std::filesystem::path files_folder;  // for files of clients, where the archive has some
};

struct Restored {
  BackupManifest manifest;
  int spooled = 0;                            // settlements of the spools
  int unfinished = 0;                         // requests that ran then; settled as failed
  std::optional<std::filesystem::path> kept;  // where the old database is now
  std::optional<std::filesystem::path> kept_files;  // likewise, where there was a folder of files
};

// Puts the database of an archive in place, brings its schema forward, and settles what had not
// ended. Nobody is signed in afterwards. All or nothing, but for PostgreSQL's schema and
// settlements, which come after its tables, and for files, which come right before the database. A
// SQLite file and a folder of files are replaced where `in_place` says so, and kept under other
// names; a PostgreSQL database has to be empty. Throws already_exists where it is
// not, unavailable where somebody has it open, invalid_argument for an archive of the other kind of
// database, invalid_file for one that is damaged or newer than this program.
Restored restore(const std::filesystem::path& file, const RestorePlaces& places, InPlace in_place,
                 std::string_view actor);

}  // namespace ridge::platform
