#pragma once

#include <filesystem>
#include <memory>

namespace ridge::platform {

// SQLite's files on a disk of which one can tell what a loss of power would leave, and that can be made to
// fail. While it lives, whatever opens a SQLite database in this process is on it. It behaves as Linux does:
// what a sync could not write is lost, and counts as written for the next sync.
class FailingDisk {
 public:
  FailingDisk();
  ~FailingDisk();
  FailingDisk(const FailingDisk&) = delete;
  FailingDisk& operator=(const FailingDisk&) = delete;

  // The next `count` syncs of a log fail.
  void fail_syncs_of_logs(int count);
  bool has_failed_all() const;
  // As Linux tells of one failure: the next sync of each log that is open now fails, and what was
  // written before the first of these is lost.
  void fail_once_at_each_open_log();
  // Writes what would be left of the database at `from`, and of its log, to `to`.
  void lose_power(const std::filesystem::path& from, const std::filesystem::path& to) const;
};

}  // namespace ridge::platform
