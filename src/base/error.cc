#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace ridge {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::invalid_file: return "invalid_file";
    case ErrorCode::context_length: return "context_length_exceeded";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::already_exists: return "already_exists";
    case ErrorCode::unauthenticated: return "unauthenticated";
    case ErrorCode::permission_denied: return "permission_denied";
    case ErrorCode::payload_too_large: return "payload_too_large";
    case ErrorCode::timed_out: return "timed_out";
    case ErrorCode::queue_full: return "queue_full";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::io: return "io";
    case ErrorCode::internal: return "internal";
  }
  return "internal";
}

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return 400;
    case ErrorCode::context_length: return 400;
    case ErrorCode::unauthenticated: return 401;
    case ErrorCode::permission_denied: return 403;
    case ErrorCode::not_found: return 404;
    case ErrorCode::timed_out: return 408;
    case ErrorCode::already_exists: return 409;
    case ErrorCode::payload_too_large: return 413;
    case ErrorCode::queue_full: return 429;
    case ErrorCode::cancelled: return 499;
    case ErrorCode::unsupported: return 400;  // clients repeat a 5xx, which cannot help here
    case ErrorCode::unavailable: return 503;
    case ErrorCode::out_of_memory: return 503;
    case ErrorCode::invalid_file: return 500;
    case ErrorCode::io: return 500;
    case ErrorCode::internal: return 500;
  }
  return 500;
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "ridge: bug at %s:%d: %s does not hold\n", file, line, expression);
  std::abort();
}

}  // namespace ridge
