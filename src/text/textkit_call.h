#pragma once

#include <string_view>

#include "base/error.h"
#include "textkit.h"

// Calls into rust/textkit: owned buffers as RAII, statuses as ridge::Error.
// Internal to this folder.
namespace ridge::text {

class TextkitBuffer {
 public:
  TextkitBuffer() = default;
  ~TextkitBuffer() { tk_buffer_free(&buffer_); }
  TextkitBuffer(const TextkitBuffer&) = delete;
  TextkitBuffer& operator=(const TextkitBuffer&) = delete;

  tk_buffer* out() { return &buffer_; }
  std::string_view view() const { return {buffer_.data, buffer_.size}; }

 private:
  tk_buffer buffer_{};
};

inline tk_slice to_slice(std::string_view text) { return {text.data(), text.size()}; }

// Throws the Error that `status` and the message stand for, unless it is TK_OK.
void throw_textkit(int32_t status, std::string_view message);
inline void check_textkit(int32_t status, const TextkitBuffer& message) {
  throw_textkit(status, message.view());
}

}  // namespace ridge::text
