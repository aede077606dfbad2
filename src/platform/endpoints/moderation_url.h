#pragma once

#include <string>
#include <string_view>

namespace ridge::platform {

// Where prompts may be sent to be judged: https, or http on this machine, and no link-local
// address, where clouds keep what their machines may know. Throws invalid_argument that says so.
void check_moderation_url(const std::string& url);

// For logs, as a query may hold a secret.
std::string without_query(const std::string& url);

// Whether it is an IPv4 or IPv6 address of the link-local kind (169.254.0.0/16, fe80::/10), also
// one that came over IPv6; or the one that a cloud uses in its stead (fd00:ec2::254,
// 100.100.100.200).
bool is_link_local(std::string_view address);

}  // namespace ridge::platform
