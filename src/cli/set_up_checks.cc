#include "cli/set_up_checks.h"

#include <fmt/format.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <soci/soci.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "cli/server_record.h"
#include "platform/database/connection.h"
#include "platform/database/schema.h"
#include "platform/identity/sessions.h"
#include "server/tls.h"

namespace ridge::cli {
namespace {

constexpr int64_t day_ms = 86'400'000;
constexpr int64_t least_free_bytes = 256 << 20, good_free_bytes = int64_t{5} << 30;
constexpr int certificate_warning_days = 21;
constexpr int backup_warning_days = 7;
constexpr double clock_warning_s = 2;

Check ok(std::string subject, std::string found) {
  return {std::move(subject), Verdict::ok, std::move(found), {}};
}
Check look_at(std::string subject, std::string found, std::string advice) {
  return {std::move(subject), Verdict::look_at, std::move(found), std::move(advice)};
}
Check wrong(std::string subject, std::string found, std::string advice) {
  return {std::move(subject), Verdict::wrong, std::move(found), std::move(advice)};
}

std::string first_line_of(const char* file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

Check check_data_folder(Context& context) {
  const std::string subject = "data folder", path = context.store().root().string();
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0 || ::access(path.c_str(), W_OK | X_OK) != 0) {
    return wrong(subject, fmt::format("{} cannot be written: {}", path, std::strerror(errno)),
                 "run ridge as its owner, or name another one with --data-dir");
  }
  if ((about.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return wrong(subject, fmt::format("others may write to {}", path), "chmod go-w " + path);
  }
  if (about.st_uid != ::geteuid()) {
    return look_at(subject, fmt::format("{} belongs to another user", path),
                   "run this as the user of the server, who may see something else");
  }
  return ok(subject, path);
}

Check check_disk(Context& context) {
  const int64_t free_bytes = context.store().free_bytes();
  const std::string found = format_bytes(free_bytes) + " free";
  if (free_bytes < least_free_bytes) {
    return wrong("disk", found, "make room: without it no usage is recorded and nothing begins");
  }
  if (free_bytes < good_free_bytes) return look_at("disk", found, "make room, or move --data-dir");
  return ok("disk", found);
}

std::optional<Check> check_file_mode(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0 || (about.st_mode & 0077) == 0) return std::nullopt;
  return wrong("database", fmt::format("others may read {}", path), "chmod 600 " + path);
}

// What a database says before anything of it is used.
struct DatabaseState {
  std::string version;
  int64_t schema = 0;
  double ahead_s = 0;  // its clock, of this machine's
};

DatabaseState ask_database(const platform::DatabaseLocation& location) {
  DatabaseState state;
  try {
    const auto session = platform::connect(location);
    if (location.kind == platform::DatabaseKind::sqlite) {
      *session << "SELECT sqlite_version()", soci::into(state.version);
      state.version = "SQLite " + state.version;
    } else {
      double seconds = 0;
      *session << "SHOW server_version", soci::into(state.version);
      *session << "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)",
          soci::into(seconds);
      state.version = "PostgreSQL " + state.version;
      state.ahead_s =
          seconds - static_cast<double>(platform::Identity::wall_clock_ms()) / 1000;
    }
    state.schema = platform::schema_version(*session, location.kind);
  } catch (const soci::soci_error& failure) {
    throw platform::database_error(failure, location);
  }
  return state;
}

Check check_keys(platform::Identity& identity) {
  const int64_t now_ms = platform::Identity::wall_clock_ms();
  const auto keys = identity.keys();
  const auto working =
      std::ranges::count_if(keys, [&](const auto& key) { return key.is_valid_at(now_ms); });
  if (working == 0) {
    return look_at("keys", "none that works", "make one with 'ridge key create NAME'");
  }
  const auto ending = std::ranges::count_if(keys, [&](const auto& key) {
    return key.is_valid_at(now_ms) && key.rotated_to.empty() &&
           !key.is_valid_at(now_ms + 7 * day_ms);
  });
  if (ending > 0) {
    return look_at("keys", fmt::format("{} work, of which {} end within a week", working, ending),
                   "see 'ridge key list', and rotate those that are still used");
  }
  return ok("keys", fmt::format("{} work", working));
}

Check check_owner(platform::Database& database) {
  if (platform::Sessions(database).needs_set_up()) {
    return look_at("owner", "nobody can sign in",
                   "'ridge user create NAME --role owner', then 'ridge user password NAME'");
  }
  return ok("owner", "can sign in");
}

Check check_backup(platform::Database& database) {
  const std::string advice = "'ridge backup FILE', every night, to another machine";
  int64_t at_ms = 0;
  database.read([&](soci::session& session) {
    session << "SELECT COALESCE(MAX(at_ms), 0) FROM audit_events WHERE action = 'backup.take'",
        soci::into(at_ms);
  });
  if (at_ms == 0) return look_at("backup", "none was taken with 'ridge backup'", advice);
  const int64_t days = (platform::Identity::wall_clock_ms() - at_ms) / day_ms;
  const std::string found = fmt::format("the last one is of {}", format_time_ms(at_ms));
  return days >= backup_warning_days ? look_at("backup", found, advice) : ok("backup", found);
}

void check_contents(const std::string& location, std::vector<Check>& checks) {
  platform::Database database(location);
  platform::Identity identity(database);
  checks.push_back(check_keys(identity));
  checks.push_back(check_owner(database));
  checks.push_back(check_backup(database));
}

void check_database(Context& context, const SetUp& set_up, std::vector<Check>& checks) {
  const std::string subject = "database";
  try {
    const std::string text = database_location(context, set_up.database);
    const auto location = platform::DatabaseLocation::parse(text);
    if (location.kind == platform::DatabaseKind::sqlite) {
      if (!std::filesystem::exists(text)) {
        checks.push_back(look_at(subject, fmt::format("{} is not there yet", text),
                                 "the first 'ridge key create NAME' or 'ridge serve' makes it"));
        return;
      }
      if (const auto check = check_file_mode(text)) checks.push_back(*check);
    }
    const DatabaseState state = ask_database(location);
    const int64_t newest = platform::newest_schema_version();
    const std::string found =
        fmt::format("{}, {}, schema {}", location.name, state.version, state.schema);
    if (state.schema > newest) {
      checks.push_back(wrong(subject, found,
                             fmt::format("a newer ridge has used it, and this one knows schema {}: "
                                         "use the newer one, or restore a backup from before",
                                         newest)));
      return;
    }
    if (std::abs(state.ahead_s) > clock_warning_s) {
      checks.push_back(look_at("clock",
                               fmt::format("{:.0f} s {} that of the database", std::abs(state.ahead_s),
                                           state.ahead_s > 0 ? "behind" : "ahead of"),
                               "let both machines keep time by NTP"));
    }
    if (state.schema < newest) {
      checks.push_back(
          look_at(subject, found,
                  fmt::format("the next start brings it to schema {}, which an older ridge refuses: "
                              "take a backup before",
                              newest)));
      return;
    }
    checks.push_back(ok(subject, found));
    check_contents(text, checks);
  } catch (const Error& error) {
    checks.push_back(wrong(subject, std::string(error.message()),
                           "without it nothing is answered: see that it runs, and --database"));
  }
}

Check check_spool(Context& context) {
  int64_t bytes = 0;
  std::error_code failure;
  for (const auto& entry :
       std::filesystem::directory_iterator(context.store().root() / "metering", failure)) {
    if (entry.path().extension() != ".spool") continue;
    bytes += static_cast<int64_t>(entry.file_size(failure));
  }
  if (bytes == 0) return ok("usage", "none waits for the database");
  return look_at("usage", fmt::format("{} wait for the database", format_bytes(bytes)),
                 "a server writes them once it has the database: start one on this data folder, or "
                 "look at its log");
}

void check_servers(const std::vector<ServerRecord>& servers, std::vector<Check>& checks) {
  for (const ServerRecord& server : servers) {
    const auto body = ask_health(server.url);
    const nlohmann::json health =
        nlohmann::json::parse(body.value_or(""), nullptr, /*allow_exceptions=*/false);
    const std::string state = health.is_object() ? health.value("status", "?") : "no answer";
    const std::string found = fmt::format("{} (process {}): {}", server.url, server.pid, state);
    checks.push_back(state == "ok"
                         ? ok("server", found)
                         : wrong("server", found, "look at its log; a restart may be needed"));
  }
  if (servers.empty()) checks.push_back(ok("server", "none runs on this data folder"));
}

struct FreeAddresses {
  void operator()(addrinfo* addresses) const { ::freeaddrinfo(addresses); }
};

Check check_port(const SetUp& set_up, const std::vector<ServerRecord>& servers) {
  const std::string port = std::to_string(set_up.port);
  const std::string where = fmt::format("{} port {}", set_up.host, port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int failure = ::getaddrinfo(set_up.host.c_str(), port.c_str(), &hints, &found);
      failure != 0) {
    return wrong("address", fmt::format("{}: {}", where, ::gai_strerror(failure)), "see --host");
  }
  const std::unique_ptr<addrinfo, FreeAddresses> address(found);
  const FileDescriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (socket && ::bind(socket.get(), address->ai_addr, address->ai_addrlen) == 0 &&
      ::listen(socket.get(), 1) == 0) {
    return ok("address", where + " is free");
  }
  const int failure = errno;
  const bool is_ours = std::ranges::any_of(
      servers, [&](const ServerRecord& server) { return server.url.ends_with(":" + port); });
  if (failure == EADDRINUSE && is_ours) return ok("address", where + " is the running server's");
  const std::string text = fmt::format("{}: {}", where, std::strerror(failure));
  if (failure == EADDRINUSE && !set_up.is_port_chosen) {
    return look_at("address", text, "serve on another --port");
  }
  return wrong("address", text,
               failure == EACCES ? "ports below 1024 need AmbientCapabilities=CAP_NET_BIND_SERVICE"
                                 : "see --host and --port, or what listens there (ss -ltnp)");
}

struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};

// Days for which the first certificate of a file is still valid.
std::optional<int> days_left(const std::string& file) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> stream(BIO_new_file(file.c_str(), "r"),
                                                         &BIO_free);
  if (!stream) return std::nullopt;
  const std::unique_ptr<X509, FreeCertificate> certificate(
      PEM_read_bio_X509(stream.get(), nullptr, nullptr, nullptr));
  int days = 0, seconds = 0;
  if (!certificate || ASN1_TIME_diff(&days, &seconds, nullptr,
                                     X509_get0_notAfter(certificate.get())) != 1) {
    return std::nullopt;
  }
  return seconds < 0 ? days - 1 : days;
}

Check check_tls(const SetUp& set_up) {
  const std::string subject = "TLS";
  const std::string &certificate = set_up.tls_certificate, &key = set_up.tls_key;
  if (certificate.empty() || key.empty()) {
    return wrong(subject, "--tls-cert and --tls-key go together", "name both");
  }
  try {
    server::load_tls(certificate, key);
  } catch (const Error& error) {
    return wrong(subject, std::string(error.message()), "see docs/operations.md, \"TLS\"");
  }
  struct stat about {};
  if (::stat(key.c_str(), &about) == 0 && (about.st_mode & S_IRWXO) != 0) {
    return wrong(subject, fmt::format("everybody may read the key {}", key), "chmod o= " + key);
  }
  const std::string renew = "renew it, and let the server read it anew: kill -HUP";
  const int days = days_left(certificate).value_or(0);
  if (days < 0) return wrong(subject, fmt::format("{} has expired", certificate), renew);
  const std::string found = fmt::format("{} and its key; valid for {} days", certificate, days);
  return days < certificate_warning_days ? look_at(subject, found, renew) : ok(subject, found);
}

Check check_clock() {
  timex state{};
  const int answer = ::adjtimex(&state);  // without modes it only tells
  if (answer == TIME_ERROR || (answer >= 0 && (state.status & STA_UNSYNC) != 0)) {
    return look_at("clock", "not kept by NTP, as far as the kernel knows",
                   "timedatectl set-ntp true, or chrony; in a container the machine's counts");
  }
  return ok("clock", answer < 0 ? "the kernel does not tell" : "kept by NTP");
}

Check check_open_files(int max_connections) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t needed = static_cast<rlim_t>(max_connections) + 256;
  const std::string found = fmt::format("{} may be open", limit.rlim_cur);
  if (limit.rlim_cur >= needed) return ok("files", found);
  return look_at("files", found,
                 fmt::format("{} connections need {}: LimitNOFILE= of the unit, or ulimit -n",
                             max_connections, needed));
}

Check check_huge_pages() {
  const std::string modes = first_line_of("/sys/kernel/mm/transparent_hugepage/enabled");
  if (modes.find("[never]") == std::string::npos) {
    return ok("huge pages", modes.empty() ? "the kernel does not tell" : modes);
  }
  return look_at("huge pages", modes,
                 "answers are slower without: echo madvise > "
                 "/sys/kernel/mm/transparent_hugepage/enabled");
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::look_at:
      return "look at";
    case Verdict::wrong:
      break;
  }
  return "wrong";
}

std::vector<Check> check_set_up(Context& context, const SetUp& set_up) {
  std::vector<Check> checks;
  if (!set_up.database.data_dir.empty()) context.home = set_up.database.data_dir;
  checks.push_back(check_data_folder(context));
  checks.push_back(check_disk(context));
  check_database(context, set_up, checks);
  checks.push_back(check_spool(context));
  const auto servers = running_servers(context.store().root() / "run");
  check_servers(servers, checks);
  checks.push_back(check_port(set_up, servers));
  if (!set_up.tls_certificate.empty() || !set_up.tls_key.empty()) {
    checks.push_back(check_tls(set_up));
  }
  checks.push_back(check_clock());
  checks.push_back(check_open_files(set_up.max_connections));
  checks.push_back(check_huge_pages());
  return checks;
}

}  // namespace ridge::cli
