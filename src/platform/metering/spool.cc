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
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
  throw Error(ErrorCode::io,
              fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(errno)));
}

std::string line_of(const Settlement& settlement) {
  return Json{{"id", settlement.id},
              {"prompt_tokens", settlement.prompt_tokens},
              {"cached_tokens", settlement.cached_tokens},
              {"completion_tokens", settlement.completion_tokens},
              {"reasoning_tokens", settlement.reasoning_tokens},
              {"ttft_ms", settlement.ttft_ms},
              {"duration_ms", settlement.duration_ms},
              {"finish_reason", settlement.finish_reason},
              {"is_void", settlement.is_void}}
             .dump() +
         "\n";
}

Settlement settlement_of(const std::string& line) {
  const Json json = Json::parse(line);
  Settlement settlement;
  json.at("id").get_to(settlement.id);
  json.at("prompt_tokens").get_to(settlement.prompt_tokens);
  json.at("cached_tokens").get_to(settlement.cached_tokens);
  json.at("completion_tokens").get_to(settlement.completion_tokens);
  json.at("reasoning_tokens").get_to(settlement.reasoning_tokens);
  json.at("ttft_ms").get_to(settlement.ttft_ms);
  json.at("duration_ms").get_to(settlement.duration_ms);
  json.at("finish_reason").get_to(settlement.finish_reason);
  json.at("is_void").get_to(settlement.is_void);
  return settlement;
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
  const std::string line = line_of(settlement);
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
      settlements.push_back(settlement_of(line));
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
