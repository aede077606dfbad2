#include "text/textkit_call.h"

#include <string>

namespace ridge::text {

void throw_textkit(int32_t status, std::string_view message) {
  if (status == TK_OK) return;
  const std::string text(message);
  switch (status) {
    case TK_INVALID_ARGUMENT:
    case TK_EXHAUSTED:
      throw Error(ErrorCode::invalid_argument, text);
    case TK_INVALID_FILE:
      throw Error(ErrorCode::invalid_file, text);
    case TK_UNSUPPORTED:
      throw Error(ErrorCode::unsupported, text);
    case TK_TOO_LARGE:
      throw Error(ErrorCode::payload_too_large, text);
    default:
      throw Error(ErrorCode::internal, text);
  }
}

}  // namespace ridge::text

#ifdef __SANITIZE_THREAD__
// Rust's locks do not go through pthread, so the sanitizer cannot see how the crate, which it does
// not instrument, hands memory from thread to thread.
extern "C" const char* __tsan_default_suppressions() {
  return "race:tk_*\nrace:textkit::*\nrace:tokenizers::*\n";
}
#endif
