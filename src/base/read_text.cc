#include "base/read_text.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace ridge {

std::string read_text(const std::filesystem::path& file, std::string_view what) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::not_found : ErrorCode::io;
    throw Error(code,
                fmt::format("cannot read {}{}: {}", what, file.string(), std::strerror(errno)));
  }
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace ridge
