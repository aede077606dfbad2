#include <fmt/format.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/utc_time.h"
#include "platform/backup/backup.h"
#include "platform/backup/client_files.h"
#include "platform/backup/postgresql_tools.h"
#include "platform/backup/unpack.h"
#include "platform/backup/work_folder.h"
#include "platform/database/schema.h"
#include "platform/folder.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"
#include "platform/metering/ledger.h"
#include "platform/metering/spool.h"

namespace ridge::platform {
namespace {

using backup::WorkFolder;

constexpr DatabasePatience restore_patience{.wait = std::chrono::seconds(5), .most_statement = {}};

// As on a machine that has taken the place of another.
void make_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  std::error_code failure;
  if (std::filesystem::create_directories(folder, failure)) {
    std::filesystem::permissions(folder, std::filesystem::perms::owner_all, failure);
  }
  if (failure) {
    throw DiskError(fmt::format("cannot make {}: {}", folder.string(), failure.message()));
  }
}

bool is_empty_or_missing(const std::filesystem::path& folder) {
  std::error_code failure;
  return !std::filesystem::exists(folder, failure) || std::filesystem::is_empty(folder, failure);
}

// The folder of files before it takes its place.
class NewFiles {
 public:
  NewFiles(const std::filesystem::path& place, InPlace in_place) : place_(place) {
    if (in_place == InPlace::nothing && !is_empty_or_missing(place)) {
      throw Error(ErrorCode::already_exists,
                  fmt::format("there are files in {}; with --replace they are kept under another "
                              "name",
                              place.string()));
    }
    make_folder_of(place);
    work_.emplace(place);
  }

  std::filesystem::path place_of(const BackupFile& file) const {
    return backup::place_of_client_file(file.member, *work_ / "files");
  }
  // All that may take long or fail for want of room; what is there stays.
  void prepare() const;
  // Behind it. Where the folder is that was there, if there was one.
  std::optional<std::filesystem::path> put_in_place() const;

 private:
  const std::filesystem::path place_;
  std::optional<WorkFolder> work_;
};

struct Unpacked {
  BackupManifest manifest;
  std::filesystem::path database;
  std::vector<std::filesystem::path> spools;
  std::unique_ptr<NewFiles> files;  // null where there are none
};

Unpacked unpack_to(const WorkFolder& work, const std::filesystem::path& file,
                   const std::filesystem::path& files_folder, InPlace in_place) {
  Unpacked unpacked;
  unpacked.manifest = backup::unpack(file, [&](const BackupFile& each) {
    if (unpacked.database.empty()) return unpacked.database = work / "database";
    if (backup::is_client_file(each.member)) {
      if (!unpacked.files) unpacked.files = std::make_unique<NewFiles>(files_folder, in_place);
      return unpacked.files->place_of(each);
    }
    unpacked.spools.push_back(work / fmt::format("spool-{}", unpacked.spools.size()));
    return unpacked.spools.back();
  });
  return unpacked;
}

// What servers would find wrong: requests and batches that nobody works at, and people who had
// signed out since.
void settle(Database& database, const Unpacked& unpacked, Restored& restored,
            std::string_view actor) {
  Ledger ledger(database, "restore");
  for (const std::filesystem::path& path : unpacked.spools) {
    const auto settlements = Spool(path, std::numeric_limits<std::size_t>::max()).read();
    ledger.commit(settlements, {});
    restored.spooled += static_cast<int>(settlements.size());
  }
  restored.unfinished = ledger.settle_all_as_abandoned();
  database.write([&](soci::session& session) {
    session << "DELETE FROM sessions";
    session << "DELETE FROM set_up_links";
    session << "UPDATE batches SET lease_ends_at_ms = 0";  // of servers that are no more
    const nlohmann::json details = {{"taken_at_ms", restored.manifest.taken_at_ms},
                                    {"unfinished", restored.unfinished}};
    rows::record_change(session, Identity::wall_clock_ms(), actor, "backup.restore", "",
                        details.dump());
  });
}

// The time as it can be part of a file's name.
std::string stamp() {
  std::string text = utc_time(Identity::wall_clock_ms() / 1000);
  std::erase_if(text, [](char c) { return c == ':' || c == '-'; });
  return text;
}

// A SQLite database that nobody else has open, as long as this lives.
class Claim {
 public:
  explicit Claim(const DatabaseLocation& location) : session_(connect(location)) {
    try {
      int64_t set_ms = 0;
      *session_ << fmt::format("PRAGMA busy_timeout = {}", restore_patience.wait.count()),
          soci::into(set_ms);
      // Which also puts all of the log into the file, and needs it alone.
      std::string mode;
      *session_ << "PRAGMA journal_mode = DELETE", soci::into(mode);
      *session_ << "BEGIN EXCLUSIVE";
    } catch (const soci::sqlite3_soci_error& failure) {
      const DatabaseError error = database_error(failure, location);
      if (error.code() != ErrorCode::unavailable) throw error;
      throw Error(
          ErrorCode::unavailable,
          fmt::format("the database {} is in use; stop the servers on it first", location.name));
    }
  }

 private:
  const std::unique_ptr<soci::session> session_;
};

// A log that is left without its database would be taken for one of the new database.
void move_log(const std::string& database, const std::string& kept) {
  for (const char* const end : {"-wal", "-journal"}) {
    if (std::filesystem::exists(database + end)) backup::rename_file(database + end, kept + end);
  }
  std::error_code ignored;
  std::filesystem::remove(database + "-shm", ignored);
}

// Under another name as well, so that the new one takes its place in one step.
std::optional<std::filesystem::path> keep_old(const DatabaseLocation& location,
                                              std::unique_ptr<Claim>& claim) {
  const std::string kept = fmt::format("{}.before-{}", location.text, stamp());
  if (!std::filesystem::exists(location.text)) {
    move_log(location.text, kept);
    return std::nullopt;
  }
  try {
    claim = std::make_unique<Claim>(location);
  } catch (const Error& failure) {
    if (failure.code() != ErrorCode::invalid_file) throw;  // damaged, so that nobody can use it
  }
  move_log(location.text, kept);
  if (::link(location.text.c_str(), kept.c_str()) != 0) {
    throw DiskError(
        fmt::format("cannot keep {} as {}: {}", location.text, kept, std::strerror(errno)));
  }
  return kept;
}

// Root restores for whom the server runs as.
void give_to_owner(const std::filesystem::path& file, const std::filesystem::path& place) {
  if (::geteuid() != 0) return;
  struct stat owner {};
  const std::filesystem::path folder = std::filesystem::absolute(place).parent_path();
  if (::stat(place.c_str(), &owner) != 0 && ::stat(folder.c_str(), &owner) != 0) return;
  if (::chown(file.c_str(), owner.st_uid, owner.st_gid) != 0) {
    throw DiskError(
        fmt::format("cannot give {} to its owner: {}", place.string(), std::strerror(errno)));
  }
}

void NewFiles::prepare() const {
  const std::filesystem::path files = *work_ / "files";
  give_to_owner(files, place_);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(files)) {
    give_to_owner(entry.path(), place_);
    if (entry.is_regular_file()) backup::sync_file(entry.path());
  }
}

std::optional<std::filesystem::path> NewFiles::put_in_place() const {
  const std::filesystem::path files = *work_ / "files";
  std::optional<std::filesystem::path> kept;
  if (!is_empty_or_missing(place_)) {
    kept = fmt::format("{}.before-{}", place_.string(), stamp());
    backup::rename_file(place_, *kept);
  }
  backup::rename_file(files, place_);  // an empty folder goes
  backup::sync_file(place_);
  return kept;
}

void restore_sqlite(const DatabaseLocation& location, const Unpacked& unpacked, Restored& restored,
                    std::string_view actor) {
  backup::check_sqlite(unpacked.database);
  {
    Database draft(unpacked.database.string());
    settle(draft, unpacked, restored, actor);
  }
  Claim(DatabaseLocation::parse(unpacked.database.string()));  // all in one file
  give_to_owner(unpacked.database, location.text);
  backup::sync_file(unpacked.database);
  if (unpacked.files) unpacked.files->prepare();
  std::unique_ptr<Claim> old;
  restored.kept = keep_old(location, old);
  if (unpacked.files) restored.kept_files = unpacked.files->put_in_place();
  backup::rename_file(unpacked.database, location.text);
  backup::sync_file(location.text);
}

void restore_postgresql(const DatabaseLocation& location, const Unpacked& unpacked,
                        Restored& restored, std::string_view actor) {
  if (unpacked.files) unpacked.files->prepare();
  backup::load_postgresql(location, unpacked.database);
  Database database(location.text);
  settle(database, unpacked, restored, actor);
  // Last, so that where the database was not restored, nothing is.
  try {
    if (unpacked.files) restored.kept_files = unpacked.files->put_in_place();
  } catch (const Error& failure) {
    throw Error(failure.code(),
                fmt::format("{}; the database {} is restored without its files: make it anew, and "
                            "restore again",
                            failure.message(), location.name));
  }
}

void check_place(const DatabaseLocation& location, InPlace in_place) {
  if (location.kind == DatabaseKind::sqlite) {
    if (in_place == InPlace::old_database || !std::filesystem::exists(location.text)) return;
    throw Error(ErrorCode::already_exists,
                fmt::format("there is a database {}; with --replace it is kept under another name",
                            location.name));
  }
  const auto session = connect(location);
  set_up(*session, location, restore_patience);
  if (schema_version(*session, location.kind) == 0) return;
  throw Error(ErrorCode::already_exists,
              fmt::format("the database {} is not empty; make a new one (createdb), restore into "
                          "it, and let the servers use that",
                          location.name));
}

}  // namespace

Restored restore(const std::filesystem::path& file, const RestorePlaces& places, InPlace in_place,
                 std::string_view actor) {
  const DatabaseLocation location = DatabaseLocation::parse(places.database);
  try {
    check_place(location, in_place);
    const bool is_file = location.kind == DatabaseKind::sqlite;
    if (is_file) make_folder_of(location.text);
    const WorkFolder work(is_file ? std::filesystem::path(location.text) : file);
    const Unpacked unpacked = unpack_to(work, file, places.files_folder, in_place);
    Restored restored{.manifest = unpacked.manifest, .kept = {}, .kept_files = {}};
    if (unpacked.manifest.kind != location.kind) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} is a backup of {}, and {} is of {}", file.string(),
                              backup::name(unpacked.manifest.kind), location.name,
                              backup::name(location.kind)));
    }
    if (is_file) {
      restore_sqlite(location, unpacked, restored, actor);
    } else {
      restore_postgresql(location, unpacked, restored, actor);
    }
    return restored;
  } catch (const soci::soci_error& failure) {
    throw database_error(failure, location);
  }
}

}  // namespace ridge::platform
