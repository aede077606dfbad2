#include "api/answer.h"

#include <fmt/format.h>

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "api/error_body.h"

namespace ridge::api {

namespace {

// From the kernel: who knows some ids must not be able to tell others'.
std::array<unsigned char, 32> random_bytes() {
  std::array<unsigned char, 32> bytes;
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (count > 0) {
      filled += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
  }
  return bytes;
}

}  // namespace

std::string random_id(std::string_view prefix) {
  constexpr std::string_view letters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr std::size_t id_letters = 24;
  constexpr unsigned fair_bytes = 256 / letters.size() * letters.size();
  const std::size_t size = prefix.size() + id_letters;
  std::string id(prefix);
  while (id.size() < size) {
    for (const unsigned char byte : random_bytes()) {
      if (byte < fair_bytes && id.size() < size) id += letters[byte % letters.size()];
    }
  }
  return id;
}

std::string_view openai_finish_reason(engine::FinishReason reason) {
  if (reason == engine::FinishReason::tool_calls) return "tool_calls";
  return reason == engine::FinishReason::length ? "length" : "stop";
}

void Answer::fail(const Error& error, std::string_view request_id, std::string& out) {
  out += error_event(error, request_id);
}

std::string error_event(const Error& error, std::string_view request_id) {
  return fmt::format("data: {}\n\n", error_body(error, request_id));
}

}  // namespace ridge::api
