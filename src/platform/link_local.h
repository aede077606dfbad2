#pragma once

#include <string_view>

namespace ridge::platform {

// Whether it is an IPv4 or IPv6 address of the link-local kind (169.254.0.0/16, fe80::/10), where
// clouds keep what their machines may know; also one that is reached over IPv6 (::ffff:0:0/96,
// 64:ff9b::/96), or one that a cloud uses in its stead (fd00:ec2::254, 100.100.100.200). A zone or
// brackets may stand with it. False for what is no address.
bool is_link_local(std::string_view address);

}  // namespace ridge::platform
