#include "text/textkit_call.h"

#include <string>

namespace ridge::text {

void check_textkit(int32_t status, const TextkitBuffer& message) {
  if (status == TK_OK) return;
  const std::string text(message.view());
  switch (status) {
    case TK_INVALID_ARGUMENT:
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
