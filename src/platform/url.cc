#include "platform/url.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ridge::platform {
namespace {

void refuse_strange_bytes(std::string_view text) {
  const bool strange = text.size() > 16384 || std::any_of(text.begin(), text.end(), [](char c) {
                         return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '\\';
                       });
  if (strange)
    throw Error(ErrorCode::invalid_argument, "a URL holds a space, backslash or control character");
}

std::string encode(std::string_view text, bool keep_slash) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
    if (plain) {
      result += c;
    } else {
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

}  // namespace

Url::Url(Handle handle, std::string_view text) : handle_(std::move(handle)) {
  const std::string scheme = part(CURLUPART_SCHEME);
  is_https_ = scheme == "https";
  if (!is_https_ && scheme != "http") {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no http or https URL", text.substr(0, 200)));
  }
  if (!part(CURLUPART_USER).empty() || !part(CURLUPART_PASSWORD).empty()) {
    throw Error(ErrorCode::invalid_argument, "a URL must not hold a user name or password");
  }
  origin_ = fmt::format("{}://{}:{}", scheme, part(CURLUPART_HOST),
                        part(CURLUPART_PORT, CURLU_DEFAULT_PORT));
  std::transform(origin_.begin(), origin_.end(), origin_.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
}

std::string_view Url::host() const {
  std::string_view host = std::string_view(origin_).substr(origin_.find("://") + 3);
  host = host.substr(0, host.rfind(':'));
  return host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
}

bool Url::is_this_machine() const {
  const std::string_view host = std::string_view(origin_).substr(origin_.find("://") + 3);
  // "127.0.0.1.example.org" is another's.
  const bool is_loopback =
      host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.find(':');
  return is_loopback || host.starts_with("localhost:") || host.starts_with("[::1]");
}

Url Url::parse(std::string_view text) {
  refuse_strange_bytes(text);
  Handle handle(curl_url());
  if (handle == nullptr ||
      curl_url_set(handle.get(), CURLUPART_URL, std::string(text).c_str(), 0) != CURLUE_OK) {
    throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is no URL", text.substr(0, 200)));
  }
  return Url(std::move(handle), text);
}

Url Url::resolve(std::string_view location) const {
  refuse_strange_bytes(location);
  Handle handle(curl_url_dup(handle_.get()));
  if (handle == nullptr ||
      curl_url_set(handle.get(), CURLUPART_URL, std::string(location).c_str(), 0) != CURLUE_OK) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no URL to go to", location.substr(0, 200)));
  }
  return Url(std::move(handle), location);
}

std::string Url::part(CURLUPart what, unsigned flags) const {
  char* text = nullptr;
  if (curl_url_get(handle_.get(), what, &text, flags) != CURLUE_OK) return {};
  std::string result(text);
  curl_free(text);
  return result;
}

std::string Url::to_string() const { return origin_ + part(CURLUPART_PATH); }

std::string encode_path(std::string_view path) { return encode(path, /*keep_slash=*/true); }
std::string encode_query(std::string_view value) { return encode(value, /*keep_slash=*/false); }

}  // namespace ridge::platform
