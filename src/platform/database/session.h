#pragma once

#include <memory>
#include <string>

namespace soci {
class session;
class statement;
}  // namespace soci

namespace ridge::platform {

enum class DatabaseKind { sqlite, postgresql };

// A connection to a database, which stands for SOCI's session wherever one is asked for, and the
// statements that it keeps prepared (kept_statement.h).
class Session {
 public:
  Session(std::unique_ptr<soci::session> session, DatabaseKind kind);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  operator soci::session&() { return *session_; }

  // Whether it pays to keep one: PostgreSQL parses and plans each text that comes, and SOCI has to
  // be told to leave a row of SQLite's.
  bool keeps_statements() const;
  // Prepared at the first call, and without elements. Texts must be few, as all are kept.
  soci::statement& kept(const std::string& text);

 private:
  struct Kept;

  const std::unique_ptr<soci::session> session_;
  const std::unique_ptr<Kept> kept_;  // null where none is kept
};

}  // namespace ridge::platform
