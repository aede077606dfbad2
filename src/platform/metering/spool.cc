#include "platform/metering/spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {

// A line of the file. Found by its arguments, and so not in the unnamed namespace.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Settlement, id, prompt_tokens, cached_tokens, completion_tokens,
                                   reasoning_tokens, ttft_ms, duration_ms, finish_reason, is_void)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(BatchMark, batch_id, line, server, start, bytes, is_error)

namespace {

using Json = nlohmann::json;

// A mark only where there is one: earlier programs wrote none.
Json json_of(const Settlement& settlement) {
  Json json = settlement;
  if (!settlement.mark.batch_id.empty()) json["mark"] = settlement.mark;
  return json;
}

Settlement settlement_in(const Json& json) {
  auto settlement = json.get<Settlement>();
  if (json.contains("mark")) settlement.mark = json["mark"].get<BatchMark>();
  return settlement;
}

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
  throw Error(ErrorCode::io,
              fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(errno)));
}

}  // namespace

Spool::Spool(std::filesystem::path file, std::size_t most_bytes)
    : path_(std::move(file)),
      file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)),
      most_bytes_(most_bytes) {
  if (!file_) fail("open", path_);
  const off_t size = ::lseek(file_.get(), 0, SEEK_END);
  if (size < 0) fail("read", path_);
  bytes_ = static_cast<std::size_t>(size);
}

void Spool::append(const Settlement& settlement) {
  const std::string line = json_of(settlement).dump() + "\n";
  if (bytes_ + line.size() > most_bytes_) {
    throw Error(ErrorCode::unavailable, fmt::format("{} is full", path_.string()));
  }
  const ssize_t written = ::write(file_.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size()) && ::fdatasync(file_.get()) == 0) {
    bytes_ += line.size();
    return;
  }
  const int failure = errno;
  // What may be there in part must not run into the next line.
  if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0) {
    log::error("{} may end with a damaged line", path_.string());
  }
  errno = failure;
  fail("write to", path_);
}

std::vector<Settlement> Spool::read() const {
  std::ifstream file(path_);
  std::vector<Settlement> settlements;
  for (std::string line; std::getline(file, line);) {
    try {
      settlements.push_back(settlement_in(Json::parse(line)));
    } catch (const Json::exception&) {
      log::warning("{} has a damaged line, which is left out", path_.string());
    }
  }
  if (file.bad()) fail("read", path_);
  return settlements;
}

void Spool::clear() {
  if (::ftruncate(file_.get(), 0) != 0 || ::fdatasync(file_.get()) != 0) fail("empty", path_);
  bytes_ = 0;
}

}  // namespace ridge::platform
