#include "platform/database/connection.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <soci/postgresql/soci-postgresql.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>

#include "base/file_descriptor.h"
#include "platform/database/kept_statement.h"

namespace ridge::platform {
namespace {

// Each statement sees what was committed before it, and whoever held the lock has committed; its
// number is any that all of our programs agree on. In one, as each is a way to the server and back.
constexpr const char* begin_postgresql_write =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7164371164010119)";

bool is_postgresql_url(std::string_view text) {
  return text.starts_with("postgresql://") || text.starts_with("postgres://");
}

// "postgresql://user:secret@host/db?password=secret" without what libpq takes for a password.
std::string without_password(std::string_view url) {
  std::string name(url.substr(0, url.find('?')));
  const std::size_t host = name.find("://") + 3;
  const std::size_t at = name.rfind('@');
  const std::size_t colon = name.find(':', host);
  if (at != std::string::npos && colon < at) name.erase(colon, at - colon);
  return name;
}

// A server that has vanished is noticed in seconds, not when TCP gives up; what the URL says stays.
std::string with_timeouts(std::string_view url) {
  std::string text(url);
  for (const std::string_view setting : {"connect_timeout=5", "tcp_user_timeout=10000"}) {
    if (text.find(setting.substr(0, setting.find('=') + 1)) != std::string::npos) continue;
    text += text.find('?') == std::string::npos ? '?' : '&';
    text += setting;
  }
  return text;
}

// SQLite would create it for everybody to read. One that is there is not opened: closing it again
// would drop the locks that SQLite has on it for this process's other connections, and another
// program could take the log away from under them.
void create_for_owner(const std::string& path) {
  if (FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600))) return;
  if (errno == EEXIST) {
    if (std::filesystem::is_directory(path)) {
      errno = EISDIR;
    } else if (::access(path.c_str(), R_OK | W_OK) == 0) {
      return;
    }
  }
  throw DatabaseError(ErrorCode::io,
                      fmt::format("cannot open the database {}: {}", path, std::strerror(errno)));
}

// In the log when it is moved into the database: SQLite's own default.
constexpr int checkpoint_pages = 1000;

sqlite_api::sqlite3* sqlite_of(soci::session& session) {
  return static_cast<soci::sqlite3_session_backend*>(session.get_backend())->conn_;
}

bool is_busy(int sqlite_result) {
  const int primary = sqlite_result & 0xff;
  return primary == SQLITE_BUSY || primary == SQLITE_LOCKED;
}

// SQLite's busy timeout does not cover the change to WAL, which two first starts may do at once.
void turn_to_wal(soci::session& session, const DatabaseLocation& location,
                 std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  while (true) {
    try {
      std::string mode;
      session << "PRAGMA journal_mode = WAL", soci::into(mode);
      if (mode == "wal") return;
      throw DatabaseError(ErrorCode::io,
                          fmt::format("the database {} cannot be shared between processes on this "
                                      "file system (journal mode {}); put it on a local disk",
                                      location.name, mode));
    } catch (const soci::sqlite3_soci_error& failure) {
      if (!is_busy(failure.result()) || std::chrono::steady_clock::now() > until) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

void set_up_sqlite(soci::session& session, const DatabaseLocation& location,
                   std::chrono::milliseconds wait) {
  int64_t set_ms = 0;
  session << fmt::format("PRAGMA busy_timeout = {}", wait.count()), soci::into(set_ms);
  turn_to_wal(session, location, wait);
  session << "PRAGMA foreign_keys = ON";
}

void set_up_postgresql(soci::session& session, DatabasePatience patience) {
  session << "SET client_min_messages = warning";
  session << fmt::format("SET lock_timeout = {}", patience.wait.count());
  session << "SET synchronous_commit = on";  // whatever the server has it at
  session << fmt::format("SET statement_timeout = {}", patience.most_statement.count());
}

// The first line. PostgreSQL quotes values on further ones, but where there is no connection the
// second says why.
std::string without_values(std::string text) {
  const std::size_t first_end = text.find('\n');
  if (first_end == std::string::npos) return text;
  if (text.starts_with("Cannot establish connection")) {
    text[first_end] = ' ';
    text.resize(std::min(text.size(), text.find('\n')));
  } else {
    text.resize(first_end);
  }
  return text;
}

ErrorCode code_of_sqlite(int result) {
  switch (result & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return ErrorCode::invalid_file;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorCode::unavailable;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return ErrorCode::io;
    default:
      return ErrorCode::internal;
  }
}

// SQLite calls it an error of the disk where there is no room for the smaller of its files.
bool has_no_room(const std::filesystem::path& file) {
  constexpr std::uintmax_t needed_bytes = 64u << 10;
  std::error_code failure;
  const auto space = std::filesystem::space(std::filesystem::absolute(file).parent_path(), failure);
  return !failure && space.available < needed_bytes;
}

ErrorCode code_of(const soci::soci_error& failure) {
  if (const auto* sqlite = dynamic_cast<const soci::sqlite3_soci_error*>(&failure)) {
    return code_of_sqlite(sqlite->result());
  }
  switch (failure.get_error_category()) {
    case soci::soci_error::invalid_statement:
    case soci::soci_error::constraint_violation:
    case soci::soci_error::no_data:
      return ErrorCode::internal;
    default:
      return ErrorCode::unavailable;
  }
}

}  // namespace

DatabaseLocation DatabaseLocation::parse(std::string_view text) {
  if (is_postgresql_url(text)) {
    return {DatabaseKind::postgresql, with_timeouts(text), without_password(text)};
  }
  if (text.find("://") != std::string_view::npos) {
    throw Error(ErrorCode::invalid_argument,
                "a database is a path, for SQLite, or postgresql://USER@HOST/NAME");
  }
  // SOCI takes a text with '=' for a list of settings.
  if (text.empty() || text.find('=') != std::string_view::npos) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}' cannot be the path of a database: it is empty or holds '='", text));
  }
  return {DatabaseKind::sqlite, std::string(text), std::string(text)};
}

std::unique_ptr<soci::session> connect(const DatabaseLocation& location) {
  try {
    if (location.kind == DatabaseKind::sqlite) {
      create_for_owner(location.text);
      return std::make_unique<soci::session>(soci::sqlite3, location.text);
    }
    // By name: SOCI loads it, and libpq with all that it needs, only where it is used.
    return std::make_unique<soci::session>("postgresql", location.text);
  } catch (const soci::soci_error& failure) {
    throw database_error(failure, location);
  }
}

void set_up(soci::session& session, const DatabaseLocation& location, DatabasePatience patience) {
  try {
    if (location.kind == DatabaseKind::sqlite) {
      set_up_sqlite(session, location, patience.wait);
    } else {
      set_up_postgresql(session, patience);
    }
  } catch (const soci::soci_error& failure) {
    throw database_error(failure, location);
  }
}

void set_up_beside(soci::session& session) {
  session << "SET enable_seqscan = off";
  session << "SET plan_cache_mode = force_generic_plan";
}

int socket_of(soci::session& session, DatabaseKind kind) {
  if (kind != DatabaseKind::postgresql) return -1;
  static const auto pq_socket = [] {
    void* libpq = ::dlopen("libpq.so.5", RTLD_LAZY | RTLD_NOLOAD);  // SOCI has loaded it
    void* symbol = libpq != nullptr ? ::dlsym(libpq, "PQsocket") : nullptr;
    return reinterpret_cast<int (*)(const PGconn*)>(symbol);
  }();
  const auto* backend = static_cast<soci::postgresql_session_backend*>(session.get_backend());
  return pq_socket != nullptr ? pq_socket(backend->conn_) : -1;
}

bool has_news(soci::session& session, DatabaseKind kind) {
  pollfd news{.fd = socket_of(session, kind), .events = POLLIN, .revents = 0};
  return news.fd >= 0 && ::poll(&news, 1, /*timeout=*/0) != 0;
}

void begin_read(soci::session& session, DatabaseKind kind) {
  session << (kind == DatabaseKind::sqlite ? "BEGIN"
                                           : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

void begin_write(soci::session& session, DatabaseKind kind, Durability durability) {
  if (kind == DatabaseKind::sqlite) {
    const bool waits = durability == Durability::on_return;
    // FULL: a commit is on the disk when it returns. NORMAL, and WAL's default, leave that to
    // later.
    session << (waits ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    session << "BEGIN IMMEDIATE";  // at once, as a lock that is only upgraded later may fail
    return;
  }
  std::string nothing;
  session << begin_postgresql_write, soci::into(nothing);
}

void sync_log(Session& session) {
  sqlite_api::sqlite3_file* log = nullptr;
  const int found = sqlite_api::sqlite3_file_control(sqlite_of(session), "main",
                                                     SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (found != SQLITE_OK || log == nullptr || log->pMethods == nullptr) {
    throw Error(ErrorCode::internal, "SQLite does not say where its log is");
  }
  if (log->pMethods->xSync(log, SQLITE_SYNC_NORMAL) != SQLITE_OK) {
    throw Error(ErrorCode::io, "the database's log cannot be written to the disk");
  }
}

void write_log_anew(soci::session& session) {
  // TRUNCATE: also waits for readers, so that nothing is written behind what the disk has lost.
  const int result = sqlite_api::sqlite3_wal_checkpoint_v2(
      sqlite_of(session), "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  if (result == SQLITE_OK) return;
  throw DatabaseError(code_of_sqlite(result),
                      fmt::format("what the disk did not take cannot be written anew: {}",
                                  sqlite_api::sqlite3_errstr(result)));
}

void watch_checkpoints(soci::session& session, std::atomic<int64_t>& failures) {
  // As SQLite's own hook does, which drops the result.
  const auto checkpoint = [](void* count, sqlite_api::sqlite3* connection, const char* name,
                             int pages) {
    if (pages < checkpoint_pages) return SQLITE_OK;
    const int result = sqlite_api::sqlite3_wal_checkpoint_v2(
        connection, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    if (result != SQLITE_OK && !is_busy(result)) {
      ++*static_cast<std::atomic<int64_t>*>(count);
    }
    return SQLITE_OK;
  };
  sqlite_api::sqlite3_wal_hook(sqlite_of(session), checkpoint, &failures);
}

DatabaseError database_error(const soci::soci_error& failure, const DatabaseLocation& location) {
  const ErrorCode code = code_of(failure);
  const bool is_full =
      location.kind == DatabaseKind::sqlite && code == ErrorCode::io && has_no_room(location.text);
  return {code, fmt::format("the database {}: {}{}", location.name,
                            without_values(failure.get_error_message()),
                            is_full ? "; its disk is full" : "")};
}

}  // namespace ridge::platform
