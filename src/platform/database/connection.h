#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace soci {
class session;
class soci_error;
}  // namespace soci

namespace ridge::platform {

enum class DatabaseKind { sqlite, postgresql };

// Where a database is. parse() throws invalid_argument for a URL that is neither.
struct DatabaseLocation {
  DatabaseKind kind;
  std::string text;  // the path, or what libpq is given
  std::string name;  // without a password

  static DatabaseLocation parse(std::string_view text);
};

// An open session with everything set that each of ours needs. Throws as Database.
std::unique_ptr<soci::session> connect(const DatabaseLocation& location,
                                       std::chrono::milliseconds wait);

// BEGIN, so that writers take turns from here on.
void begin_read(soci::session& session, DatabaseKind kind);
void begin_write(soci::session& session, DatabaseKind kind);

// What to throw for a failure of SOCI. Leaves out its context, which quotes bound values.
Error database_error(const soci::soci_error& failure, const DatabaseLocation& location);

}  // namespace ridge::platform
