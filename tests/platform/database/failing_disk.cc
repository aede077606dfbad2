#include "platform/database/failing_disk.h"

#include <sqlite3.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ridge::platform {
namespace {

struct Change {
  sqlite3_int64 at;   // where it is written, or the new size
  std::string bytes;  // empty for a new size
};

struct File {
  std::string on_disk;
  std::vector<Change> pending;

  void sync() {
    for (const Change& change : pending) {
      const std::size_t at = static_cast<std::size_t>(change.at);
      if (change.bytes.empty()) {
        on_disk.resize(at);
        continue;
      }
      on_disk.resize(std::max(on_disk.size(), at + change.bytes.size()));
      on_disk.replace(at, change.bytes.size(), change.bytes);
    }
    pending.clear();
  }
};

// SQLite has one default disk for a process, and asks it by functions without a place for ours.
std::mutex mutex;
std::map<std::string, File> files;  // by path
struct Open {
  std::string path;
  const sqlite3_io_methods* real;
};
std::map<sqlite3_file*, Open> opened;
// What SQLite has for a kind of file, and ours in its place.
std::map<const sqlite3_io_methods*, sqlite3_io_methods> methods;
int failures = 0;
std::set<const sqlite3_file*> untold;  // logs that were open at a failure of which they tell yet
bool loses_written = false;            // at the first of these
sqlite3_vfs disk;

int write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 at) {
  const std::lock_guard lock(mutex);
  const Open& open = opened.at(file);
  files[open.path].pending.push_back({at, std::string(static_cast<const char*>(bytes), size)});
  return open.real->xWrite(file, bytes, size, at);
}

int truncate(sqlite3_file* file, sqlite3_int64 size) {
  const std::lock_guard lock(mutex);
  const Open& open = opened.at(file);
  files[open.path].pending.push_back({size, {}});
  return open.real->xTruncate(file, size);
}

int sync(sqlite3_file* file, int) {
  const std::lock_guard lock(mutex);
  const Open& open = opened.at(file);
  File& known = files[open.path];
  if (failures > 0 && open.path.ends_with("-wal")) {
    --failures;
    known.pending.clear();
    return SQLITE_IOERR_FSYNC;
  }
  if (untold.erase(file) > 0) {
    if (std::exchange(loses_written, false)) known.pending.clear();
    known.sync();
    return SQLITE_IOERR_FSYNC;
  }
  known.sync();
  return SQLITE_OK;  // the tests lose no real power
}

int close(sqlite3_file* file) {
  const std::lock_guard lock(mutex);
  const Open open = opened.at(file);
  opened.erase(file);
  untold.erase(file);
  return open.real->xClose(file);
}

int open(sqlite3_vfs* self, sqlite3_filename name, sqlite3_file* file, int flags, int* out_flags) {
  sqlite3_vfs* const real = static_cast<sqlite3_vfs*>(self->pAppData);
  const int result = real->xOpen(real, name, file, flags, out_flags);
  if (result != SQLITE_OK || name == nullptr || (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) == 0) {
    return result;
  }
  const std::lock_guard lock(mutex);
  const sqlite3_io_methods* const own = file->pMethods;
  const auto [ours, is_new] = methods.try_emplace(own, *own);
  if (is_new) {
    ours->second.iVersion = 2;  // without files in memory, which are written past this
    ours->second.xWrite = write;
    ours->second.xTruncate = truncate;
    ours->second.xSync = sync;
    ours->second.xClose = close;
  }
  opened[file] = {name, own};
  file->pMethods = &ours->second;
  return result;
}

void save(const std::string& content, const std::filesystem::path& path) {
  std::ofstream(path, std::ios::binary) << content;
}

}  // namespace

FailingDisk::FailingDisk() {
  sqlite3_vfs* const real = sqlite3_vfs_find(nullptr);
  if (real == nullptr) throw std::runtime_error("SQLite has no disk");
  disk = *real;
  disk.zName = "failing";
  disk.pAppData = real;
  disk.xOpen = open;
  files.clear();
  failures = 0;
  untold.clear();
  sqlite3_vfs_register(&disk, /*makeDflt=*/1);
}

FailingDisk::~FailingDisk() {
  sqlite3_vfs* const real = static_cast<sqlite3_vfs*>(disk.pAppData);
  sqlite3_vfs_unregister(&disk);
  sqlite3_vfs_register(real, /*makeDflt=*/1);
}

void FailingDisk::fail_syncs_of_logs(int count) {
  const std::lock_guard lock(mutex);
  failures = count;
}

void FailingDisk::fail_once_at_each_open_log() {
  const std::lock_guard lock(mutex);
  loses_written = true;
  for (const auto& [file, open] : opened) {
    if (open.path.ends_with("-wal")) untold.insert(file);
  }
}

bool FailingDisk::has_failed_all() const {
  const std::lock_guard lock(mutex);
  return failures == 0;
}

void FailingDisk::lose_power(const std::filesystem::path& from, const std::filesystem::path& to) const {
  const std::lock_guard lock(mutex);
  save(files[from.string()].on_disk, to);
  save(files[from.string() + "-wal"].on_disk, to.string() + "-wal");
}

}  // namespace ridge::platform
