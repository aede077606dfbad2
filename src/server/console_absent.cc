// Stands where the console would, in builds with RIDGE_CONSOLE=OFF.
#include "server/console_files.h"

namespace ridge::server {

std::span<const ConsoleFile> console_files() { return {}; }

}  // namespace ridge::server
