#pragma once

#include <curl/urlapi.h>

#include <memory>
#include <string>
#include <string_view>

namespace ridge::platform {

// An http or https URL. Parsed once, by the parser of the library that connects (libcurl), so that
// no two readings of one text can differ.
class Url {
 public:
  // Throws invalid_argument for what is no absolute http or https URL, holds a user name, a
  // backslash, a space or a control character.
  static Url parse(std::string_view text);
  // What `location` of a redirect means, seen from this URL.
  Url resolve(std::string_view location) const;

  Url(Url&&) noexcept = default;
  Url& operator=(Url&&) noexcept = default;

  bool is_https() const { return is_https_; }
  // "https://host:port", in lower case, the port always there: equal for the same server.
  const std::string& origin() const { return origin_; }
  // Of it, without brackets.
  std::string_view host() const;
  // By name or address: no proxy is asked for it.
  bool is_this_machine() const;
  // Without the query, which may hold a signature.
  std::string to_string() const;
  CURLU* handle() const { return handle_.get(); }

 private:
  struct Free {
    void operator()(CURLU* handle) const { curl_url_cleanup(handle); }
  };
  using Handle = std::unique_ptr<CURLU, Free>;
  Url(Handle handle, std::string_view text);
  std::string part(CURLUPart what, unsigned flags = 0) const;

  Handle handle_;
  bool is_https_;
  std::string origin_;
};

// Percent-encodes all but letters, digits, - . _ ~ and '/'.
std::string encode_path(std::string_view path);
// As encode_path(), and '/' too: one value of a query.
std::string encode_query(std::string_view value);

}  // namespace ridge::platform
