#include "server/batch_input.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "api/fields.h"
#include "api/json_text.h"
#include "base/error.h"
#include "platform/folder.h"

namespace ridge::server {
namespace {

using api::Json;

constexpr std::size_t read_bytes = 256u << 10;
constexpr int64_t most_requests = 50'000;  // as in OpenAI's API
constexpr std::size_t most_errors = 100;
constexpr std::size_t most_custom_id_bytes = 512;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

[[noreturn]] void refuse_line(const char* code, const std::string& message) {
  throw Error(ErrorCode::invalid_argument, message, code);
}

const Json& member(const Json& object, const char* name, const char* code) {
  const auto found = object.find(name);
  if (found == object.end()) refuse_line(code, fmt::format("'{}' is missing", name));
  return *found;
}

}  // namespace

InputLines::InputLines(FileDescriptor file, std::size_t most_line_bytes)
    : file_(std::move(file)), most_line_bytes_(most_line_bytes) {}

// False at the end of the file.
bool InputLines::fill() {
  at_ = 0;
  buffer_.resize(read_bytes);
  ssize_t got = 0;
  do {
    got = ::read(file_.get(), buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  buffer_.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
  if (got < 0) throw platform::DiskError(fmt::format("cannot read: {}", std::strerror(errno)));
  return got > 0;
}

std::optional<InputLine> InputLines::next() {
  while (true) {
    std::string text;
    bool is_there = false, has_end = false, is_too_long = false;
    while (!has_end) {
      if (at_ == buffer_.size() && !fill()) break;
      is_there = true;
      const std::size_t end = buffer_.find('\n', at_);
      has_end = end != std::string::npos;
      const std::size_t size = (has_end ? end : buffer_.size()) - at_;
      is_too_long |= text.size() + size > most_line_bytes_;
      if (!is_too_long) text.append(buffer_, at_, size);
      at_ += size + (has_end ? 1 : 0);
    }
    if (!is_there) return std::nullopt;
    ++number_;
    if (is_too_long) return InputLine{.number = number_};
    if (!is_blank(text)) return InputLine{.number = number_, .text = std::move(text)};
  }
}

BatchRequest read_batch_request(const InputLine& line, std::string_view endpoint) {
  if (line.text.empty()) refuse_line("line_too_long", "the line is longer than a request may be");
  Json json;
  try {
    json = api::parse_json(line.text);
  } catch (const Error& error) {
    refuse_line("invalid_json_line", std::string(error.message()));
  }
  if (!json.is_object()) refuse_line("invalid_json_line", "the line is no JSON object");
  const Json& id = member(json, "custom_id", "missing_custom_id");
  if (!id.is_string() || id.get_ref<const std::string&>().empty() ||
      id.get_ref<const std::string&>().size() > most_custom_id_bytes) {
    refuse_line("invalid_custom_id", fmt::format("'custom_id' must be a string of 1 to {} bytes",
                                                 most_custom_id_bytes));
  }
  if (member(json, "method", "missing_method") != "POST") {
    refuse_line("invalid_method", "'method' must be 'POST'");
  }
  if (member(json, "url", "missing_url") != endpoint) {
    refuse_line("mismatched_url",
                fmt::format("'url' must be '{}', the endpoint of the batch", endpoint));
  }
  const Json& body = member(json, "body", "missing_body");
  if (!body.is_object()) refuse_line("invalid_body", "'body' must be an object");
  if (body.value("stream", Json()) == true) {
    refuse_line("invalid_body", "'body.stream' cannot be true in a batch");
  }
  return {.line = line.number, .custom_id = id.get<std::string>(), .body = api::to_text(body)};
}

CheckedInput check_batch_input(InputLines lines, std::string_view endpoint,
                               const std::function<bool()>& goes_on) {
  CheckedInput checked;
  std::unordered_set<std::string> ids;
  const auto add = [&](const std::string& code, std::string message, int64_t line) {
    checked.errors.push_back({.code = code, .message = std::move(message), .line = line});
  };
  while (auto line = lines.next()) {
    if (!goes_on() || checked.errors.size() >= most_errors) break;
    if (++checked.requests > most_requests) {
      add("too_many_requests", fmt::format("a batch has at most {} requests", most_requests),
          line->number);
      break;
    }
    try {
      BatchRequest request = read_batch_request(*line, endpoint);
      if (!ids.insert(request.custom_id).second) {
        add("duplicate_custom_id",
            fmt::format("'custom_id' is '{}', as on a line before", request.custom_id),
            line->number);
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument) throw;
      add(error.param(), std::string(error.message()), line->number);
    }
  }
  if (checked.requests == 0) add("empty_file", "the input file has no requests", 0);
  return checked;
}

namespace {

std::string line_head(std::string_view batch_id, const BatchRequest& request) {
  std::string line =
      fmt::format("{{\"id\":\"batch_req_{}_{}\",\"custom_id\":",
                  batch_id.substr(batch_id.find('_') + 1), request.line);
  api::append_json_string(line, request.custom_id);
  return line;
}

}  // namespace

std::string batch_result_line(std::string_view batch_id, const BatchRequest& request, int status,
                              std::string_view request_id, std::string_view body) {
  std::string line = line_head(batch_id, request);
  line += fmt::format(",\"response\":{{\"status_code\":{},\"request_id\":", status);
  api::append_json_string(line, request_id);
  line += ",\"body\":";
  line += body;
  line += "},\"error\":null}\n";
  return line;
}

std::string batch_failure_line(std::string_view batch_id, const BatchRequest& request,
                               std::string_view code, std::string_view message) {
  std::string line = line_head(batch_id, request);
  line += ",\"response\":null,\"error\":{\"code\":";
  api::append_json_string(line, code);
  line += ",\"message\":";
  api::append_json_string(line, message);
  line += "}}\n";
  return line;
}

}  // namespace ridge::server
