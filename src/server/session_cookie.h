#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace ridge::server {

// The cookie of who has signed in to the console. Where TLS is spoken its name has the prefix
// __Host- (RFC 6265bis), so that no other host, and no page without TLS, can set it; then no other
// name is looked at.
std::string session_cookie(std::string_view token, bool is_secure, std::chrono::seconds lives);
// Takes it away.
std::string ended_session_cookie(bool is_secure);

// Its token in the header Cookie; "" where there is none.
std::string session_token(std::string_view cookies, bool is_secure);

}  // namespace ridge::server
