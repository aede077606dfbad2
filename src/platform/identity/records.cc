#include "platform/identity/records.h"

#include <algorithm>

namespace ridge::platform {

std::string_view name(UserKind kind) { return kind == UserKind::service ? "service" : "person"; }

std::optional<UserKind> user_kind_named(std::string_view text) {
  for (const UserKind kind : {UserKind::person, UserKind::service}) {
    if (name(kind) == text) return kind;
  }
  return std::nullopt;
}

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
