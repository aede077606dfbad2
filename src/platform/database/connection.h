#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "platform/database/database.h"
#include "platform/database/database_error.h"

namespace soci {
class session;
class soci_error;
}  // namespace soci

namespace ridge::platform {

// Where a database is. parse() throws invalid_argument for a URL that is neither.
struct DatabaseLocation {
  DatabaseKind kind;
  std::string text;  // the path, or what libpq is given
  std::string name;  // without a password

  static DatabaseLocation parse(std::string_view text);
};

// How long the database may take; of 0: for ever.
struct DatabasePatience {
  std::chrono::milliseconds wait;            // for what others have locked
  std::chrono::milliseconds most_statement;  // for the end of a statement; PostgreSQL's own count
};

// An open session. Throws as Database.
std::unique_ptr<soci::session> connect(const DatabaseLocation& location);
// Sets what each of ours needs. Throws as Database.
void set_up(soci::session& session, const DatabaseLocation& location, DatabasePatience patience);

// PostgreSQL, for single statements that each request needs: they find their rows by indices, also
// in tables that were empty when they were planned, once.
void set_up_beside(soci::session& session);

// On which a PostgreSQL server answers; below 0 for a file.
int socket_of(soci::session& session, DatabaseKind kind);
// Whether the server has said something although it was not asked, as when it ends the connection.
bool has_news(soci::session& session, DatabaseKind kind);

// BEGIN, so that writers take turns from here on.
void begin_read(soci::session& session, DatabaseKind kind);
void begin_write(soci::session& session, DatabaseKind kind, Durability durability);
// SQLite, outside a transaction: returns once all that was committed before is on the disk.
void sync_log(Session& session);

// SQLite. A disk that did not take the log is told so once: the system then counts what it could
// not write as written, and the next sync succeeds without it. Whoever saw a sync fail therefore
// has to write all of the log anew, into the database itself, and to begin an empty one.
//
// Outside a transaction. Throws unavailable where others read an old view for too long.
void write_log_anew(soci::session& session);
// Counts in `failures` where SQLite finds, as it moves the log into the database in passing, that
// the disk does not take it, which it tells nobody. `failures` outlives the session.
void watch_checkpoints(soci::session& session, std::atomic<int64_t>& failures);

// What to throw for a failure of SOCI. Leaves out its context, which quotes bound values.
DatabaseError database_error(const soci::soci_error& failure, const DatabaseLocation& location);

}  // namespace ridge::platform
