#pragma once

#include <string>
#include <string_view>

namespace ridge::platform {

// Where prompts may be sent to be judged: https, or http on this machine, and no link-local
// address, where clouds keep what their machines may know. Throws invalid_argument that says so.
void check_moderation_url(const std::string& url);

// For logs, as a query may hold a secret.
std::string without_query(const std::string& url);

}  // namespace ridge::platform
