#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"
#include "base/error.h"

namespace ridge::administration {
namespace {

using platform::ApiKey;
using platform::Role;
using platform::Scope;

constexpr std::size_t most_own_keys = 100;        // that work, of one developer
constexpr std::size_t most_project_keys = 1'000;  // beyond which a project's admin makes no more

bool administers(const Caller& caller) { return caller.is_at_least(Role::admin); }
// The keys of the project that the caller acts for, and those of no other.
bool leads(const Caller& caller) { return caller.role == Role::project_admin; }
bool is_own(const Caller& caller, const std::string& user) {
  return !caller.user_name.empty() && user == caller.user_name;
}

// Admins do everything but to owners: whoever had a key of an owner's would be one.
void check_owner(const Call& call, const std::string& user) {
  if (user.empty() || call.caller.role == Role::owner) return;
  const auto owner = call.identity.find_user(user);
  if (owner && owner->role == Role::owner) {
    throw Error(ErrorCode::permission_denied,
                fmt::format("'{}' is an owner, whose keys only an owner makes and ends", user),
                "user");
  }
}

// Whoever had such a key could do what a project's admin may not.
void check_is_not_of_admin(const Call& call, const std::string& user,
                           const platform::KeyRights& rights) {
  if (!leads(call.caller)) return;
  if (rights.has(Scope::admin)) {
    throw Error(
        ErrorCode::permission_denied,
        "keys with the scope admin are for the organisation, and its admins make and end them",
        "scopes");
  }
  const auto owner = user.empty() ? std::nullopt : call.identity.find_user(user);
  if (owner && owner->role <= Role::admin) {
    throw Error(
        ErrorCode::permission_denied,
        fmt::format("'{}' is an admin of the organisation, whose keys are not the project's", user),
        "user");
  }
}

std::vector<Scope> scopes_of(const api::Fields& fields) {
  const auto words = strings_field(fields, "scopes", 10);
  if (!words) return {Scope::inference};
  if (words->empty()) api::refuse("scopes", "'scopes' is empty; a key needs at least one");
  std::vector<Scope> scopes;
  for (const std::string& word : *words) {
    const auto scope = platform::scope_named(word);
    if (!scope) refuse_choice("scopes", word, platform::scope_names());
    if (std::ranges::find(scopes, *scope) == scopes.end()) scopes.push_back(*scope);
  }
  return scopes;
}

platform::KeyRights rights_of(const api::Fields& fields) {
  platform::KeyRights rights{.scopes = scopes_of(fields)};
  rights.models =
      strings_field(fields, "models", platform::most_key_models).value_or(rights.models);
  for (const std::string& model : rights.models) {
    if (platform::Identity::is_name(model)) continue;
    api::refuse("models", fmt::format("'models' holds '{}', which cannot be a model's name",
                                      model.substr(0, 100)));
  }
  const auto ranges = strings_field(fields, "addresses", platform::most_key_addresses);
  for (const std::string& text : ranges.value_or(std::vector<std::string>())) {
    const auto range = platform::AddressRange::parse(text);
    if (!range) {
      api::refuse("addresses",
                  fmt::format("'addresses' holds '{}'; each must be an address, or a range as "
                              "10.1.0.0/16, whose bits behind the prefix are 0",
                              text.substr(0, 100)));
    }
    rights.addresses.push_back(*range);
  }
  return rights;
}

// A developer's keys are his own, in his project; a project's admin makes them for its members,
// too.
void settle_owner(const Call& call, platform::NewKey& wanted, const api::Fields& fields) {
  const Caller& caller = call.caller;
  const auto user = name_field(fields, "user"), project = name_field(fields, "project");
  if (administers(caller)) {
    wanted.user = user.value_or("");
    wanted.project = project.value_or(std::string(platform::default_project));
    return check_owner(call, wanted.user);
  }
  if (!leads(caller) && !is_own(caller, user.value_or(caller.user_name))) {
    throw Error(ErrorCode::permission_denied, "a developer makes keys for himself alone", "user");
  }
  if (project.value_or(caller.project_name) != caller.project_name) {
    throw Error(ErrorCode::permission_denied,
                fmt::format("you act for the project '{}', in which alone you may make keys",
                            caller.project_name),
                "project");
  }
  wanted.user = leads(caller) ? user.value_or("") : caller.user_name;
  wanted.project = caller.project_name;
  check_is_not_of_admin(call, wanted.user, wanted.rights);
}

void check_room(const Call& call) {
  const Caller& caller = call.caller;
  if (administers(caller)) return;
  const int64_t now_ms = call.identity.now_ms();
  const auto counted = leads(caller) ? call.identity.keys({.project = caller.project_name})
                                     : call.identity.keys({.user = caller.user_name});
  const auto working =
      std::ranges::count_if(counted, [&](const ApiKey& key) { return key.is_valid_at(now_ms); });
  if (std::cmp_less(working, leads(caller) ? most_project_keys : most_own_keys)) return;
  throw Error(
      ErrorCode::permission_denied,
      leads(caller)
          ? fmt::format("the project has {} keys that work, and beyond that only an admin of "
                        "the organisation makes more; revoke one first",
                        working)
          : fmt::format("you have {} keys that work, the most that a developer may have; "
                        "revoke one first",
                        working));
}

// A developer sees no keys but his own, a project's admin those of the project as well.
bool is_visible(const Caller& caller, const ApiKey& key) {
  return administers(caller) || is_own(caller, key.user) ||
         (leads(caller) && key.project == caller.project_name);
}

// The key that {id} names.
ApiKey key_of(const Call& call) {
  const auto key = call.identity.find_key(call.argument);
  if (!key || !is_visible(call.caller, *key)) {
    throw Error(ErrorCode::not_found,
                fmt::format("there is no key with the id '{}'", call.argument.substr(0, 100)));
  }
  check_owner(call, key->user);
  if (!is_own(call.caller, key->user)) check_is_not_of_admin(call, key->user, key->rights);
  return *key;
}

Answer created(const Call& call, const platform::CreatedKey& created) {
  Json body = {{"key", created.text.text()}};
  body.update(json_of(created.key, call.identity.now_ms()));
  return json_answer(body, 201);
}

}  // namespace

Answer list_keys(const Call& call) {
  const Page page = page_of(call.query);
  platform::KeyQuery query{.project = api::query_value(call.query, "project").value_or(""),
                           .after = page.after,
                           .most = page.limit + 1};
  if (leads(call.caller) && query.project.empty()) query.project = call.caller.project_name;
  const bool sees_project =
      administers(call.caller) || (leads(call.caller) && query.project == call.caller.project_name);
  if (!sees_project) query.user = call.caller.user_name;
  if (!page.after.empty()) {
    const auto last = call.identity.find_key(page.after);
    if (!last || !is_visible(call.caller, *last)) {
      api::refuse("after", "'after' must be the id of a key of the list");
    }
  }
  Json data = Json::array();
  if (sees_project || !query.user.empty()) {
    const int64_t now_ms = call.identity.now_ms();
    for (const ApiKey& key : call.identity.keys(query)) data.push_back(json_of(key, now_ms));
  }
  return page_answer(std::move(data), page);
}

Answer create_key(const Call& call) {
  const api::Fields fields(call.body, "");
  platform::NewKey wanted{.name = required_name(fields, "name"), .rights = rights_of(fields)};
  wanted.lifetime_ms = fields.integer("lifetime_ms", 1, platform::longest_key_lifetime_ms);
  settle_owner(call, wanted, fields);
  check_room(call);
  return created(call, call.identity.create_key(wanted, call.caller.actor));
}

Answer rotate_key(const Call& call) {
  const int64_t grace_ms = api::Fields(call.body, "")
                               .integer("grace_ms", 0, platform::longest_key_lifetime_ms)
                               .value_or(0);
  const ApiKey key = key_of(call);
  check_room(call);
  return created(call,
                 call.identity.rotate_key({key.id, key.project}, grace_ms, call.caller.actor));
}

Answer revoke_key(const Call& call) {
  const ApiKey key = key_of(call);
  const auto revoked = call.identity.revoke_keys({key.id, key.project}, call.caller.actor);
  return json_answer(json_of(revoked.front(), call.identity.now_ms()));
}

}  // namespace ridge::administration
