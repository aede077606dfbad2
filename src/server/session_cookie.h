#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "platform/identity/sessions.h"

// Cookies of the console. Where TLS is spoken their names have the prefix __Host- (RFC 6265bis), so
// that no other host, and no page without TLS, can set them; then no other name is looked at.
namespace ridge::server {

inline constexpr auto session_lives =
    std::chrono::duration_cast<std::chrono::seconds>(platform::SessionOptions{}.longest);

// Of who has signed in. Sent with requests of this server's own pages alone.
std::string session_cookie(std::string_view token, bool is_secure, std::chrono::seconds lives);
// Takes it away.
std::string ended_session_cookie(bool is_secure);
// Its token in the header Cookie; "" where there is none.
std::string session_token(std::string_view cookies, bool is_secure);

// Of who has gone to a provider to sign in. Also sent when the provider sends the browser back.
std::string attempt_cookie(std::string_view secret, bool is_secure, std::chrono::seconds lives);
std::string attempt_secret(std::string_view cookies, bool is_secure);

}  // namespace ridge::server
