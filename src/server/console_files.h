#pragma once

#include <span>
#include <string_view>

namespace ridge::server {

// A file of the web console, as console/ was built into this program.
struct ConsoleFile {
  std::string_view path;  // as requests name it: "/" or "/assets/NAME-HASH.EXTENSION"
  std::string_view content_type;
  std::string_view etag;                 // with its quotation marks
  std::string_view plain, gzip, brotli;  // its bytes; a coding that saves nothing is empty
};

// All that can be asked for; empty in a program that was built with RIDGE_CONSOLE=OFF.
std::span<const ConsoleFile> console_files();

}  // namespace ridge::server
