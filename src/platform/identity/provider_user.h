#pragma once

#include <string>

namespace ridge::platform {

// Somebody whom an OpenID Connect provider vouches for. Issuer and subject together are one person
// for ever (OpenID Connect Core 1.0, 2 and 5.7); the name may be another's tomorrow.
struct ProviderUser {
  std::string issuer;
  std::string subject;
  std::string name;  // what users are called here
};

}  // namespace ridge::platform
