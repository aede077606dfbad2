#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/context.h"
#include "platform/database/database.h"
#include "platform/identity/identity.h"

namespace ridge::cli {

// Where a command finds projects, users and keys.
struct DatabaseChoice {
  std::string data_dir;  // empty: the global --home
  std::string database;  // empty: platform.db in that folder
};

// Declares --data-dir and --database, with RIDGE_DATA_DIR and RIDGE_DATABASE for the environment.
void add_database_options(CLI::App& command, DatabaseChoice& choice);

// The database of a command or server. A server may run beside it.
std::string database_location(Context& context, const DatabaseChoice& choice);

// Where clients' files are, by --files-dir or, where that is empty, in the data folder.
std::filesystem::path files_folder(Context& context, const std::string& files_dir);

// An open database and what is in it.
struct IdentityAccess {
  IdentityAccess(Context& context, const DatabaseChoice& choice,
                 const platform::DatabaseOptions& options = {})
      : database(database_location(context, choice), options), identity(database) {}

  platform::Database database;
  platform::Identity identity;
};

// Who runs this program, for the audit log: "cli:alice".
std::string acting_user();

// "90m", "12h", "30d", "2w", "1y" in milliseconds. Throws invalid_argument that names `option`.
int64_t duration_ms(std::string_view text, std::string_view option);

// "2027-01-31 14:05" in local time.
std::string format_time_ms(int64_t time_ms);

}  // namespace ridge::cli
