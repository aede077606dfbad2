#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ridge::server {

// Which Host and Origin a request may carry. A web page can make its visitor's browser call any
// address, and by DNS rebinding under a name of its own; so only names that are known to be ours
// are answered, and only origins that are named or are this server itself.
class AccessRules {
 public:
  // `host` as the server was told to bind it. Entries may be "*".
  AccessRules(std::string host, bool is_loopback, std::vector<std::string> allowed_hosts,
              std::vector<std::string> cors_origins);

  // `host` as in the header, with or without a port. Addresses written as numbers cannot be
  // rebound, but on a loopback server only its own are right.
  bool allows_host(std::string_view host) const;
  // An empty origin is no browser, or a page of our own.
  bool allows_origin(std::string_view origin, std::string_view host) const;
  // Whether a page of `origin` may use the cookie of who has signed in: this server's own pages,
  // over TLS where that is spoken, and those of origins that are named ("*" names none).
  bool allows_session(std::string_view origin, std::string_view host, bool is_secure) const;
  // Whether answers to `origin` carry CORS headers.
  bool is_cors_origin(std::string_view origin) const;
  bool has_cors() const { return !cors_origins_.empty(); }

 private:
  std::string host_;
  bool is_loopback_;
  std::vector<std::string> allowed_hosts_;
  std::vector<std::string> cors_origins_;
};

// "[::1]:8080" -> "[::1]", "Example.org:80" -> "example.org".
std::string host_without_port(std::string_view host);

}  // namespace ridge::server
