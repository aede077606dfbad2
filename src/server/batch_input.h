#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "platform/batch/batches.h"

namespace ridge::server {

// Of an input file, where it is not blank.
struct InputLine {
  int64_t number = 0;  // from 1, blank ones counted
  std::string text;    // empty where it is longer than it may be
};

// The lines of a file, one after the other, with little memory.
class InputLines {
 public:
  InputLines(FileDescriptor file, std::size_t most_line_bytes);

  // Nullopt at the end. Throws io.
  std::optional<InputLine> next();

 private:
  bool fill();

  FileDescriptor file_;
  std::size_t most_line_bytes_;
  std::string buffer_;
  std::size_t at_ = 0;
  int64_t number_ = 0;
};

// A request of a batch.
struct BatchRequest {
  int64_t line = 0;
  std::string custom_id;
  std::string body;  // JSON
};

// Throws invalid_argument, with the code that clients know in place of a field: "invalid_json_line",
// "missing_custom_id", ...
BatchRequest read_batch_request(const InputLine& line, std::string_view endpoint);

struct CheckedInput {
  int64_t requests = 0;
  std::vector<platform::BatchError> errors;  // the first hundred
};

// Reads all of it. `goes_on` is asked at each line; where it says no, what is returned is of no
// use.
CheckedInput check_batch_input(InputLines lines, std::string_view endpoint,
                               const std::function<bool()>& goes_on);

// Lines of the files that a batch leaves. `body` is JSON on one line.
std::string batch_result_line(std::string_view batch_id, const BatchRequest& request, int status,
                              std::string_view request_id, std::string_view body);
// Of a request that was never answered.
std::string batch_failure_line(std::string_view batch_id, const BatchRequest& request,
                               std::string_view code, std::string_view message);

}  // namespace ridge::server
