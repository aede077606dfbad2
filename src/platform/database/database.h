#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "platform/database/session.h"

// Whoever runs statements includes <soci/soci.h>.
namespace ridge::platform {

struct DatabaseOptions {
  int connections = 4;  // at most; opened when first needed
  // For a free connection, and for what another process has locked. Beyond it: unavailable.
  std::chrono::milliseconds wait{10'000};
  // For the end of a statement, and a little more for that of a transaction with a server that says
  // nothing at all. Beyond it: unavailable. 0: for ever, as for changes of the schema.
  std::chrono::milliseconds most{0};
  // CLOCK_REALTIME or CLOCK_BOOTTIME in microseconds; none: this machine's. For tests.
  std::function<int64_t(int clock)> read_clock_us = {};
};

// When what was written is on the disk. The program may be killed at any time in both cases.
enum class Durability {
  on_return,
  // SQLite: of Database::sync(); the machine may lose it until then. PostgreSQL puts nothing off: a
  // server that ended and came back would have lost it, and nobody would be told.
  after_sync,
};

// What the platform keeps: a SQLite file, or a PostgreSQL database that several servers share.
// Work is a function over a Session, or over SOCI's; whatever it throws undoes what it did. Several
// threads and several processes may use one database at once.
//
// Throws Error, here and from read() and write(): unavailable where the database is away or locked
// for too long, io where the disk fails or is full, invalid_file where the file is no database of
// ours or is newer than this program, internal for the rest. No message holds a bound value. What
// SQLite or PostgreSQL said, and where it is, comes as a DatabaseError (database_error.h).
class Database {
 public:
  // A path (a SQLite file, created where missing, for its owner alone), or "postgresql://...", as
  // libpq reads it. Brings the schema forward. Throws invalid_argument for another URL.
  explicit Database(std::string_view location, const DatabaseOptions& options = {});
  ~Database();

  // One view of the data, as of the first statement.
  template <typename Work>
  auto read(Work work) {
    return result_of(Access::read, std::move(work));
  }

  // All or nothing, and one after the other across all processes: what `work` reads is not changed
  // by others before it writes.
  template <typename Work>
  auto write(Work work, Durability durability = Durability::on_return) {
    const bool waits = durability == Durability::on_return;
    return result_of(waits ? Access::write : Access::write_early, std::move(work));
  }

  // PostgreSQL alone: each statement of `work` is a transaction of its own that does not take its
  // turn with other writers, and is on the disk when it returns. It has to be right whatever
  // they do meanwhile. What was done before `work` throws stays.
  template <typename Work>
  auto write_beside(Work work) {
    return result_of(Access::write_beside, std::move(work));
  }
  bool can_write_beside() const;

  // Returns once all that was committed before is on the disk. Holds up no writer meanwhile. On
  // PostgreSQL each commit has waited for that, and nothing needs it.
  void sync();
  bool needs_sync() const;

  // The time that all who share the database go by, in microseconds since 1970: PostgreSQL's own,
  // as of a few seconds ago; for SQLite this machine's, which goes on evenly while the program
  // runs, however its wall clock is put. Within read() or write().
  int64_t now_us(soci::session& session) const;
  // The same in milliseconds, as of what is known of it: asks nothing, so that it may be called
  // within read() and write() too.
  int64_t now_ms() const;
  // No later than now_ms(), nor than this machine's clock as it went on evenly since the database
  // was opened: for what cannot be undone, so that no clock that is put forward makes it happen.
  // (What stood wrong at the start cannot be noticed.)
  int64_t least_now_ms() const;

  // The location without a password, for messages.
  const std::string& name() const;

 private:
  void ask_time(soci::session& session) const;

  enum class Access { read, write, write_early, write_beside, sync };
  struct State;

  void run(Access access, const std::function<void(Session&)>& work);
  void run(Access access, const std::function<void(Session&)>& work,
           std::chrono::milliseconds most);

  template <typename Work>
  auto result_of(Access access, Work work) {
    using Result = std::invoke_result_t<Work, Session&>;
    if constexpr (std::is_void_v<Result>) {
      run(access, work);
    } else {
      std::optional<Result> result;
      run(access, [&](Session& session) { result.emplace(work(session)); });
      return std::move(*result);
    }
  }

  std::unique_ptr<State> state_;
};

}  // namespace ridge::platform
