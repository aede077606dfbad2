#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/identity_access.h"
#include "cli/server_record.h"
#include "platform/backup/backup.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BackupOptions {
  DatabaseChoice database;
  std::string file;
  std::string files_dir;  // empty: files in the data folder
  bool with_files = false;
  bool replace = false;
  bool check = false;
};

Json json_of(const platform::BackupManifest& manifest) {
  Json files = Json::array();
  int64_t bytes = 0;
  for (const platform::BackupFile& file : manifest.files) {
    files.push_back({{"name", file.member},
                     {"bytes", file.bytes},
                     {"sha256", file.digest.to_string()}});
    bytes += file.bytes;
  }
  return {{"database", platform::backup::name(manifest.kind)},
          {"schema_version", manifest.schema_version},
          {"ridge_version", manifest.ridge_version},
          {"taken_at_ms", manifest.taken_at_ms},
          {"bytes", bytes},
          {"files", files}};
}

std::string summary_of(const platform::BackupManifest& manifest) {
  return fmt::format("{} of {}, schema {}, {}, by ridge {}",
                     platform::backup::name(manifest.kind), format_time_ms(manifest.taken_at_ms),
                     manifest.schema_version, format_bytes(manifest.files.front().bytes),
                     printable(manifest.ridge_version));
}

void take(Context& context, const BackupOptions& options) {
  const std::string database = database_location(context, options.database);
  const platform::BackupManifest manifest =
      platform::back_up({.database = database,
                         .spool_folder = context.store().root() / "metering",
                         .files_folder = options.with_files ? files_folder(context, options.files_dir)
                                                            : std::filesystem::path(),
                         .ridge_version = RIDGE_VERSION},
                        options.file, acting_user());
  if (context.json) {
    Json body = {{"file", options.file}};
    body.update(json_of(manifest));
    return context.print(body.dump());
  }
  context.note(fmt::format("{}: {}. It holds hashes of keys and passwords: keep it like the "
                           "database.",
                           printable(options.file), summary_of(manifest)));
}

void check(Context& context, const BackupOptions& options) {
  const platform::BackupManifest manifest = platform::check_backup(options.file);
  if (context.json) return context.print(json_of(manifest).dump());
  context.print(fmt::format("{}: {}; every digest is as stated", printable(options.file),
                            summary_of(manifest)));
}

// A PostgreSQL database that is restored to is empty, so that no server can be at work on it.
void refuse_beside_servers(Context& context, const std::string& database) {
  if (database.find("://") != std::string::npos) return;
  const auto servers = running_servers(context.store().root() / "run");
  if (servers.empty()) return;
  throw Error(ErrorCode::unavailable,
              fmt::format("{} serves from {} (process {}); stop it first", servers.front().url,
                          context.store().root().string(), servers.front().pid));
}

void restore(Context& context, const BackupOptions& options) {
  if (options.check) return check(context, options);
  const std::string database = database_location(context, options.database);
  refuse_beside_servers(context, database);
  const auto in_place =
      options.replace ? platform::InPlace::old_database : platform::InPlace::nothing;
  const platform::Restored restored =
      platform::restore(options.file,
                        {.database = database, .files_folder = files_folder(context, options.files_dir)},
                        in_place, acting_user());
  if (context.json) {
    Json body = json_of(restored.manifest);
    body["spooled_settlements"] = restored.spooled;
    body["unfinished_requests"] = restored.unfinished;
    body["old_database"] = restored.kept ? Json(restored.kept->string()) : Json(nullptr);
    body["old_files"] = restored.kept_files ? Json(restored.kept_files->string()) : Json(nullptr);
    return context.print(body.dump());
  }
  context.note(fmt::format("restored {}", summary_of(restored.manifest)));
  if (restored.unfinished > 0) {
    context.note(fmt::format("{} requests ran at that time; they are settled as failed",
                             restored.unfinished));
  }
  if (restored.kept) {
    context.note(fmt::format("what was there before is {}", printable(restored.kept->string())));
  }
  if (restored.kept_files) {
    context.note(fmt::format("the files that were there before are in {}",
                             printable(restored.kept_files->string())));
  }
  context.note(
      "Everybody has to sign in anew. Keys, users and limits are as they were then: revoke again "
      "what was revoked since.");
}

void add_files_dir(CLI::App& command, BackupOptions& options) {
  add_setting(command, "files-dir", options.files_dir,
              "Where clients' files are kept; else files in --data-dir")
      ->type_name("DIR");
}

}  // namespace

void add_backup_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("backup", "Put keys, users, limits and usage into a file");
  command->group(operations_group);
  command->footer(
      "The database as of one moment, also while servers run, and the usage that waits for it; "
      "with --files what\n"
      "clients have uploaded and batches have answered. Models, the configuration and TLS files "
      "are not in it. For PostgreSQL it needs pg_dump.\n"
      "\n"
      "  ridge backup /var/backups/ridge-$(date +%F).zip\n"
      "  ridge restore --check /var/backups/ridge-2026-11-29.zip");
  auto options = std::make_shared<BackupOptions>();
  add_database_options(*command, options->database);
  command->add_flag("--files", options->with_files,
                    "With clients' files and the results of batches, which may be large");
  add_files_dir(*command, *options);
  command->add_option("FILE", options->file, "A new file, which only you may read")->required();
  command->callback([&context, options] { take(context, *options); });
}

void add_restore_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("restore", "Put a backup in place of the database");
  command->group(operations_group);
  command->footer(
      "Servers have to be stopped. What ran when the backup was taken is settled as failed, and "
      "nobody is signed\n"
      "in afterwards. For PostgreSQL it needs pg_restore and an empty database.\n"
      "\n"
      "  ridge restore /var/backups/ridge-2026-11-29.zip --replace");
  auto options = std::make_shared<BackupOptions>();
  add_database_options(*command, options->database);
  add_files_dir(*command, *options);
  command->add_option("FILE", options->file, "What ridge backup has made")->required();
  command->add_flag("--replace", options->replace,
                    "Also where there is a database, or a folder of files, which are kept under "
                    "other names");
  command->add_flag("--check", options->check, "Only see whether the file is whole");
  command->callback([&context, options] { restore(context, *options); });
}

}  // namespace ridge::cli
