#include "platform/identity/records.h"

#include <algorithm>

namespace ridge::platform {

bool KeyRights::has(Scope scope) const { return std::ranges::find(scopes, scope) != scopes.end(); }

bool KeyRights::allows_model(std::string_view name) const {
  return models.empty() || std::ranges::find(models, name) != models.end();
}

bool KeyRights::allows_address(std::string_view address) const {
  return addresses.empty() || std::ranges::any_of(addresses, [&](const AddressRange& range) {
           return range.contains(address);
         });
}

}  // namespace ridge::platform
