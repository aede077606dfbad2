#include "cli/identity_access.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <charconv>
#include <ctime>

#include "base/error.h"
#include "cli/config.h"

namespace ridge::cli {

void add_database_options(CLI::App& command, DatabaseChoice& choice) {
  command.add_option("--data-dir", choice.data_dir, "Where the server keeps its files (--home)")
      ->envname(environment_name("data-dir"))
      ->type_name("DIR");
  command
      .add_option("--database", choice.database,
                  "A SQLite file or postgresql://USER@HOST/NAME; else platform.db in --data-dir")
      ->envname(environment_name("database"))
      ->type_name("URL");
}

std::string database_location(Context& context, const DatabaseChoice& choice) {
  if (!choice.data_dir.empty()) context.home = choice.data_dir;
  if (!choice.database.empty()) return choice.database;
  return (context.store().root() / "platform.db").string();
}

std::filesystem::path files_folder(Context& context, const std::string& files_dir) {
  return files_dir.empty() ? context.store().root() / "files" : std::filesystem::path(files_dir);
}

std::string acting_user() {
  const passwd* user = getpwuid(getuid());
  return "cli:" + (user != nullptr ? std::string(user->pw_name) : std::to_string(getuid()));
}

int64_t duration_ms(std::string_view text, std::string_view option) {
  constexpr int64_t minute_ms = 60'000, day_ms = 24 * 60 * minute_ms;
  int64_t count = 0;
  const auto [unit, failure] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view rest = text.substr(static_cast<std::size_t>(unit - text.data()));
  int64_t unit_ms = 0;
  if (rest == "m") unit_ms = minute_ms;
  if (rest == "h") unit_ms = 60 * minute_ms;
  if (rest == "d") unit_ms = day_ms;
  if (rest == "w") unit_ms = 7 * day_ms;
  if (rest == "y") unit_ms = 365 * day_ms;
  if (failure == std::errc() && unit_ms > 0 && count >= 0 && count <= 1'000'000) {
    return count * unit_ms;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is '{}'; it must be a number and m, h, d, w or y, as in 90m or 30d",
                          option, text));
}

std::string format_time_ms(int64_t time_ms) {
  const std::time_t time = time_ms / 1000;
  std::tm local{};
  localtime_r(&time, &local);
  return fmt::format("{:%Y-%m-%d %H:%M}", local);
}

}  // namespace ridge::cli
