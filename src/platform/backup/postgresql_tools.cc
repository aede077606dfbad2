#include "platform/backup/postgresql_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "platform/subprocess.h"

namespace ridge::platform::backup {
namespace {

std::string decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      plain += static_cast<char>(code);
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

void run_tool(std::vector<std::string> words, const DatabaseLocation& location,
              const std::vector<std::string>& last) {
  const LibpqAccess access = take_password(location.text);
  words.push_back("--dbname=" + access.url);
  words.insert(words.end(), last.begin(), last.end());
  ProcessOptions options;
  if (!access.password.empty()) options.added = {"PGPASSWORD=" + access.password};
  const ProcessResult result = run_process(words, options);
  if (!result.was_found) {
    throw Error(ErrorCode::unavailable,
                fmt::format("{} is missing; install the Debian package postgresql-client, of the "
                            "server's version or a newer one",
                            words.front()));
  }
  if (result.exit_code == 0) return;
  // The first line says what failed; what follows repeats the statement.
  const std::string first = result.output.substr(0, result.output.find('\n'));
  throw Error(ErrorCode::io, fmt::format("the database {}: {} failed: {}", location.name,
                                         words.front(), first));
}

}  // namespace

LibpqAccess take_password(const std::string& url) {
  LibpqAccess access{url, {}};
  const std::size_t host = access.url.find("://") + 3;
  const std::size_t query = access.url.find('?');
  const std::size_t at = access.url.substr(0, access.url.find('/', host)).rfind('@', query);
  const std::size_t colon = access.url.find(':', host);
  if (at != std::string::npos && colon < at) {
    access.password = decoded(std::string_view(access.url).substr(colon + 1, at - colon - 1));
    access.url.erase(colon, at - colon);
  }
  constexpr std::string_view parameter = "password=";
  for (std::size_t i = access.url.find('?'); i != std::string::npos;
       i = access.url.find('&', i + 1)) {
    if (access.url.compare(i + 1, parameter.size(), parameter) != 0) continue;
    const std::size_t value = i + 1 + parameter.size();
    const std::size_t end = std::min(access.url.find('&', value), access.url.size());
    access.password = decoded(std::string_view(access.url).substr(value, end - value));
    // What stands before the next parameter stays: '?' or '&'.
    access.url.erase(i + 1, std::min(end + 1, access.url.size()) - (i + 1));
    if (access.url.back() == '&' || access.url.back() == '?') access.url.pop_back();
    break;
  }
  return access;
}

void dump_postgresql(const DatabaseLocation& location, const std::filesystem::path& file) {
  run_tool({"pg_dump", "--format=custom", "--no-password", "--file=" + file.string()}, location,
           {});
}

void load_postgresql(const DatabaseLocation& location, const std::filesystem::path& file) {
  run_tool({"pg_restore", "--no-owner", "--no-privileges", "--exit-on-error",
            "--single-transaction", "--no-password"},
           location, {file.string()});
}

}  // namespace ridge::platform::backup
