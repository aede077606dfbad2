#include "cli/server_record.h"

#include <fmt/format.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::json;

constexpr int answer_timeout_ms = 2000;
constexpr size_t max_answer_bytes = 1 << 20;

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Field 22 of /proc/PID/stat (proc(5)); the fields are counted behind the name,
// which may hold spaces.
std::optional<uint64_t> start_ticks_of(int64_t pid) {
  const std::string stat = read_all(fmt::format("/proc/{}/stat", pid));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) {
    if (!(fields >> field)) return std::nullopt;
  }
  return std::stoull(field);
}

std::optional<ServerRecord> parse_record(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    ServerRecord record;
    record.pid = json.at("pid");
    record.start_ticks = json.at("start_ticks");
    record.url = json.at("url");
    record.models = json.at("models").get<std::vector<std::string>>();
    record.started_at_s = json.at("started_at_s");
    return record;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

// Host (without the brackets of an IPv6 address) and port.
std::pair<std::string, std::string> split_url(std::string url) {
  url.erase(0, url.find("://") + 3);
  const size_t colon = url.rfind(':');
  std::string host = url.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  // A server on every address is also on this one.
  if (host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  return {host, url.substr(colon + 1)};
}

bool connect_to(int socket, const addrinfo& address) {
  const timeval timeout{answer_timeout_ms / 1000, 0};
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  return ::connect(socket, address.ai_addr, address.ai_addrlen) == 0;
}

// The same in TLS. The server is the user's own, as its record says: whose the certificate is, or
// for which name, does not matter.
std::string exchange_in_tls(int socket, std::string_view request) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context.get()), &SSL_free);
  std::string answer;
  if (!tls || SSL_set_fd(tls.get(), socket) != 1 || SSL_connect(tls.get()) != 1 ||
      SSL_write(tls.get(), request.data(), static_cast<int>(request.size())) <= 0) {
    return answer;
  }
  char bytes[4096];
  while (answer.size() < max_answer_bytes) {
    const int count = SSL_read(tls.get(), bytes, sizeof bytes);
    if (count <= 0) break;
    answer.append(bytes, static_cast<size_t>(count));
  }
  return answer;
}

std::string exchange(int socket, std::string_view request) {
  std::string answer;
  if (::send(socket, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return answer;
  }
  char bytes[4096];
  while (answer.size() < max_answer_bytes) {
    const ssize_t count = ::recv(socket, bytes, sizeof bytes, 0);
    if (count <= 0) break;
    answer.append(bytes, static_cast<size_t>(count));
  }
  return answer;
}

}  // namespace

ServerRecordFile::ServerRecordFile(const std::filesystem::path& folder, std::string url,
                                   std::vector<std::string> models)
    : path_(folder / fmt::format("{}.json", ::getpid())) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Json json = {
      {"pid", ::getpid()},
      {"start_ticks", start_ticks_of(::getpid()).value_or(0)},
      {"url", std::move(url)},
      {"models", std::move(models)},
      {"started_at_s", std::chrono::duration_cast<std::chrono::seconds>(now).count()}};
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  // Complete under its name or not at all, so that no reader sees a part.
  const std::filesystem::path draft = path_.string() + ".new";
  std::ofstream file(draft, std::ios::trunc);
  file << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  file.close();
  std::error_code failure;
  if (file) std::filesystem::rename(draft, path_, failure);
  if (!file || failure) {
    throw Error(ErrorCode::io,
                fmt::format("cannot write {}: {}", path_.string(), std::strerror(errno)));
  }
}

ServerRecordFile::~ServerRecordFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

std::vector<ServerRecord> running_servers(const std::filesystem::path& folder) {
  std::vector<ServerRecord> servers;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (entry.path().extension() != ".json") continue;
    auto record = parse_record(read_all(entry.path()));
    const bool runs = record && start_ticks_of(record->pid) == record->start_ticks;
    if (runs) {
      servers.push_back(std::move(*record));
    } else {
      std::error_code ignored;
      std::filesystem::remove(entry.path(), ignored);
    }
  }
  std::sort(servers.begin(), servers.end(), [](const ServerRecord& a, const ServerRecord& b) {
    return a.started_at_s < b.started_at_s;
  });
  return servers;
}

std::optional<std::string> ask_health(const std::string& url) {
  const auto [host, port] = split_url(url);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return std::nullopt;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(found, &::freeaddrinfo);
  const FileDescriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0 || !connect_to(socket.get(), *address)) return std::nullopt;
  constexpr std::string_view request =
      "GET /health HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  const std::string answer = url.starts_with("https:") ? exchange_in_tls(socket.get(), request)
                                                       : exchange(socket.get(), request);
  const size_t body = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.") || body == std::string::npos) return std::nullopt;
  return answer.substr(body + 4);
}

}  // namespace ridge::cli
