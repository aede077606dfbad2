#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace ridge {

// What kind of failure it is. Each maps to one HTTP status in one place (http_status).
enum class ErrorCode {
  invalid_argument,    // a request or option that can never work as given
  invalid_file,        // a model file, template or config that breaks its format
  context_length,      // prompt + answer do not fit the model's context
  not_found,           // a model, file or route that does not exist
  already_exists,      // a name that is taken
  unauthenticated,     // no key, or one that is not known
  permission_denied,   // a known key that may not do this
  payload_too_large,   // body or header over its limit
  timed_out,           // a deadline of ours or the peer's has passed
  queue_full,          // bounded admission; try again later
  out_of_memory,       // does not fit the device or the budget
  unavailable,         // starting, draining or a dependency is away
  unsupported,         // understood, but this build or device cannot
  cancelled,           // the caller went away or asked to stop
  io,                  // disk or network failed
  internal,            // a bug of ours that was caught before it did harm
};

// An expected failure. `message` says what was wrong, where, and what would be right.
// `param` names the request field at fault, or is empty.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string param = {})
      : std::runtime_error(message), code_(code), param_(std::move(param)) {}

  ErrorCode code() const { return code_; }
  std::string_view message() const { return what(); }
  const std::string& param() const { return param_; }

 private:
  ErrorCode code_;
  std::string param_;
};

// The snake_case name of the code, as in `"code": "queue_full"`.
std::string_view name(ErrorCode code);

// The one mapping from failures to HTTP statuses, 400 to 599.
int http_status(ErrorCode code);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace ridge

// A bug if false; stays on in release builds, where a wrong index would read a stranger's memory.
#define RIDGE_ASSERT(expression)                                       \
  do {                                                                 \
    if (!(expression)) [[unlikely]]                                    \
      ::ridge::assertion_failed(#expression, __FILE__, __LINE__);      \
  } while (false)
