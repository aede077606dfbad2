#pragma once

#include <filesystem>
#include <string>

#include "platform/database/connection.h"

namespace ridge::platform::backup {

// A URL of libpq without its password, which other users of the machine would see among a program's
// words.
struct LibpqAccess {
  std::string url;
  std::string password;  // empty where there is none
};
LibpqAccess take_password(const std::string& url);

// pg_dump's custom format, of one moment, beside whoever writes. Throws unavailable where pg_dump
// is not installed, io with its last line where it fails; likewise below.
void dump_postgresql(const DatabaseLocation& location, const std::filesystem::path& file);
// Into an empty database, all or nothing.
void load_postgresql(const DatabaseLocation& location, const std::filesystem::path& file);

}  // namespace ridge::platform::backup
