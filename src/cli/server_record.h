#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ridge::cli {

// What a running `ridge serve` says of itself to `ridge ps`.
struct ServerRecord {
  int64_t pid = 0;
  uint64_t start_ticks =
      0;  // of the process, since boot: tells a later process of the same number apart
  std::string url;
  std::vector<std::string> models;
  int64_t started_at_s = 0;  // since 1970
};

// A file in `folder` with the record of this process; gone with the object.
class ServerRecordFile {
 public:
  // Throws Error(io) where it cannot be written.
  ServerRecordFile(const std::filesystem::path& folder, std::string url,
                   std::vector<std::string> models);
  ~ServerRecordFile();
  ServerRecordFile(const ServerRecordFile&) = delete;
  ServerRecordFile& operator=(const ServerRecordFile&) = delete;

 private:
  std::filesystem::path path_;
};

// The servers that run, by their start. Removes the records of those that do not.
std::vector<ServerRecord> running_servers(const std::filesystem::path& folder);

// The body of GET /health of a server at `url` ("http://127.0.0.1:8080"); nullopt where none comes
// within two seconds. Goes through no proxy.
std::optional<std::string> ask_health(const std::string& url);

}  // namespace ridge::cli
