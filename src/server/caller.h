#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/identity/address_range.h"
#include "server/access.h"
#include "server/route.h"

namespace ridge::server {

// What a route asks for. One that nobody has thought of is for administrators.
Access access_of(const RouteMatch& match, std::string_view method);

// The proxies in front of this server. They alone are believed when they say whom they speak for,
// and where there are any, only they and this machine are spoken to.
class TrustedProxies {
 public:
  // Throws invalid_argument for what is no address and no range.
  explicit TrustedProxies(const std::vector<std::string>& ranges);

  bool empty() const { return ranges_.empty(); }
  bool contains(std::string_view address) const;
  // Who is at the other end: `peer`, or for a proxy the last one in X-Forwarded-For that is no
  // proxy of ours, without its port. What stands before that may be invented; where it is no address,
  // the proxy that said so stands for it.
  std::string client_of(std::string_view peer, std::string_view forwarded_for) const;

 private:
  std::vector<platform::AddressRange> ranges_;
};

}  // namespace ridge::server
