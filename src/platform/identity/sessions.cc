#include "platform/identity/sessions.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/digest.h"
#include "platform/identity/password.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

constexpr std::size_t token_bytes = 43;     // of random_secret()
constexpr int64_t noted_after_ms = 60'000;  // that a session is used

std::string hash_of(std::string_view token) { return Digest::of(token).to_string(); }

// The user and the stored hash, if any; people alone sign in.
struct Account {
  User user;
  std::string password_hash;
};

std::optional<Account> find_account(soci::session& session, const std::string& name) {
  const std::vector<User> all = rows::users(session);
  const auto found = std::ranges::find(all, name, &User::name);
  if (found == all.end()) return std::nullopt;
  Account account{*found, {}};
  soci::indicator hash_is;
  session << "SELECT password_hash FROM users WHERE id = :id", soci::use(account.user.id),
      soci::into(account.password_hash, hash_is);
  const bool may_sign_in =
      account.user.kind == UserKind::person && !account.user.disabled_at_ms.has_value();
  if (hash_is == soci::i_null || !may_sign_in) account.password_hash.clear();
  return account;
}

// From now on the user is this person's, whatever either is called.
void link(soci::session& session, const User& user, const ProviderUser& person, int64_t now_ms) {
  if (!user.oidc_subject.empty()) {
    throw Error(
        ErrorCode::unauthenticated,
        fmt::format("the user '{0}' is somebody else of a provider's; where that is you, an "
                    "admin can let you in by 'ridge user unlink {0}'",
                    user.name));
  }
  session << "UPDATE users SET oidc_issuer = :issuer, oidc_subject = :subject WHERE id = :id",
      soci::use(person.issuer), soci::use(person.subject), soci::use(user.id);
  rows::record_event(session, now_ms, "user:" + user.name, "user.link", user.id,
                     Json({{"issuer", person.issuer}, {"subject", person.subject}}).dump());
}

void store_password(soci::session& session, const std::string& user_id, const std::string& hash) {
  session << "UPDATE users SET password_hash = :hash WHERE id = :id", soci::use(hash),
      soci::use(user_id);
}

std::vector<Scope> scopes_of(Role role) {
  std::vector<Scope> scopes;
  for (const Scope scope : {Scope::inference, Scope::metrics, Scope::admin}) {
    if (may_have(role, scope)) scopes.push_back(scope);
  }
  return scopes;
}

// A project that somebody may act for, and what as.
struct Place {
  std::string project_id, project_name, organisation_id;
  double weight = 1;
  int64_t keep_days = 0;
  Role role = Role::viewer;
};

// Where `user` has id and role: those that `where` holds for, of which it uses :wanted. `default`
// is the first, then they come by their names.
std::vector<Place> places_of(soci::session& session, const std::string& user_id, Role of_user,
                             std::string_view where, const std::string& wanted, int most) {
  std::vector<Place> places;
  Place row;
  std::string membership;
  const int64_t acts_in_all = role_in_project(of_user, {}) ? 1 : 0;
  const std::string first(default_project);
  soci::statement select =
      (session.prepare << fmt::format(
           "SELECT p.id, p.name, p.organisation_id, p.weight, p.keep_days, COALESCE(m.role, '') "
           "FROM projects p LEFT JOIN project_members m ON m.project_id = p.id AND "
           "m.user_id = :user WHERE p.removed_at_ms IS NULL AND (1 = :all OR m.role IS "
           "NOT NULL) AND {} ORDER BY CASE WHEN p.name = :first THEN 0 ELSE 1 END, "
           "p.name LIMIT :most",
           where),
       soci::use(user_id, "user"), soci::use(acts_in_all, "all"), soci::use(wanted, "wanted"),
       soci::use(first, "first"), soci::use(most, "most"), soci::into(row.project_id),
       soci::into(row.project_name), soci::into(row.organisation_id), soci::into(row.weight),
       soci::into(row.keep_days), soci::into(membership));
  select.execute();
  while (select.fetch()) {
    std::optional<ProjectRole> as;
    if (!membership.empty()) as = rows::project_role_in(membership);
    row.role = role_in_project(of_user, as).value_or(Role::viewer);
    places.push_back(row);
  }
  return places;
}

constexpr std::string_view any_project = "('' = :wanted OR p.name = :wanted)",
                           project_with_id = "p.id = :wanted";

// The one that `name` names, or where it is empty the first that there is; null where there is
// none. Throws not_found for a name that is not the user's.
std::optional<Place> find_place(soci::session& session, const std::string& user_id, Role of_user,
                                const std::string& name) {
  std::vector<Place> places;
  if (name.empty() || Identity::is_name(name)) {  // or PostgreSQL would not read it
    places = places_of(session, user_id, of_user, any_project, name, 1);
  }
  if (!places.empty()) return places.front();
  if (name.empty()) return std::nullopt;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no project '{}' of yours; x-ridge-project names one", name),
              "x-ridge-project");
}

// Who has signed in as the user, and acts there.
Principal principal_at(const Place& place, std::string user_id, std::string user_name) {
  Principal user{.key_id = user_id,
                 .allowance_id = user_id,
                 .is_session = true,
                 .user_id = std::move(user_id),
                 .user_name = std::move(user_name),
                 .role = place.role,
                 .project_id = place.project_id,
                 .project_name = place.project_name,
                 .organisation_id = place.organisation_id,
                 .project_weight = place.weight};
  user.rights.scopes = scopes_of(place.role);
  user.sees_all_projects = place.role <= Role::admin;
  user.keeps_requests = place.keep_days > 0;
  return user;
}

void check_has_place(soci::session& session, const User& user, ErrorCode code) {
  if (find_place(session, user.id, user.role, "")) return;
  throw Error(code, fmt::format("'{}' is a member of no project; an admin can add the user to one",
                                user.name));
}

Error wrong_password() {
  return Error(ErrorCode::unauthenticated, "the name or the password is wrong");
}

}  // namespace

Sessions::Sessions(Database& database, const SessionOptions& options, Identity::NowMs now_ms)
    : database_(database),
      options_(options),
      now_ms_(Identity::clock_of(database, std::move(now_ms))),
      decoy_hash_(hash_password(random_secret())) {}

bool Sessions::has_owner(soci::session& session) const {
  int64_t owners = 0;
  const int64_t needs_none = options_.has_provider ? 1 : 0;
  session << "SELECT COUNT(*) FROM users WHERE role = 'owner' AND kind = 'person' AND "
             "disabled_at_ms IS NULL AND (password_hash IS NOT NULL OR :none = 1)",
      soci::use(needs_none), soci::into(owners);
  return owners > 0;
}

std::string Sessions::insert_session(soci::session& session, const User& user, std::string_view by,
                                     std::string_view address, int64_t now_ms) {
  const std::string token = random_secret();
  const std::string hash = hash_of(token);
  const int64_t idle_since = now_ms - options_.idle.count(),
                begun_before = now_ms - options_.longest.count();
  session << "DELETE FROM sessions WHERE used_at_ms <= :idle OR created_at_ms <= :begun",
      soci::use(idle_since), soci::use(begun_before);
  const int most_others = options_.most_of_user - 1;
  session << "DELETE FROM sessions WHERE user_id = :user AND token_hash NOT IN (SELECT token_hash "
             "FROM sessions WHERE user_id = :user ORDER BY created_at_ms DESC LIMIT :most)",
      soci::use(user.id, "user"), soci::use(most_others, "most");
  session << "INSERT INTO sessions (token_hash, user_id, created_at_ms, used_at_ms) VALUES (:hash, "
             ":user, :at, :at)",
      soci::use(hash, "hash"), soci::use(user.id, "user"), soci::use(now_ms, "at");
  rows::record_event(session, now_ms, "user:" + user.name, "session.begin", user.id,
                     Json({{"by", by}, {"address", address}}).dump());
  return token;
}

NewSession Sessions::sign_in(const std::string& name, std::string_view password,
                             std::string_view address) {
  const auto account =
      database_.read([&](soci::session& session) { return find_account(session, name); });
  const bool has_password = account && !account->password_hash.empty();
  const bool is_right =
      verify_password(has_password ? account->password_hash : decoy_hash_, password);
  if (!has_password || !is_right) throw wrong_password();
  return database_.write([&](soci::session& session) {
    // Unless it was changed meanwhile.
    const auto now = find_account(session, name);
    if (!now || now->password_hash != account->password_hash) throw wrong_password();
    const int64_t now_ms = now_ms_();
    rows::project_id(session, std::string(default_project), now_ms);
    check_has_place(session, now->user, ErrorCode::permission_denied);
    return NewSession{insert_session(session, now->user, "password", address, now_ms), now->user};
  });
}

NewSession Sessions::sign_in_as(const ProviderUser& person, std::optional<Role> create_role,
                                std::string_view address) {
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    rows::project_id(session, std::string(default_project), now_ms);
    const std::vector<User> all = rows::users(session);
    auto user = std::ranges::find_if(all, [&](const User& each) {
      return each.oidc_issuer == person.issuer && each.oidc_subject == person.subject;
    });
    const bool is_known = user != all.end();
    if (!is_known) user = std::ranges::find(all, person.name, &User::name);
    std::optional<User> found;
    if (user != all.end()) {
      found = *user;
    } else if (create_role) {
      rows::check_name(person.name, "a user");
      found = rows::insert_user(session, {.name = person.name, .role = *create_role},
                                ProjectRole::developer, now_ms, "oidc");
    }
    if (!found || found->kind != UserKind::person || found->disabled_at_ms) {
      throw Error(
          ErrorCode::unauthenticated,
          fmt::format("'{}' may not sign in here; an admin can make the user", person.name));
    }
    check_has_place(session, *found, ErrorCode::unauthenticated);
    if (!is_known) link(session, *found, person, now_ms);
    return NewSession{insert_session(session, *found, "oidc", address, now_ms), *found};
  });
}

void Sessions::sign_out(std::string_view token, std::string_view address) {
  const std::string hash = hash_of(token);
  database_.write([&](soci::session& session) {
    std::string id, name;
    session << "SELECT u.id, u.name FROM sessions s JOIN users u ON u.id = s.user_id WHERE "
               "s.token_hash = :hash",
        soci::use(hash), soci::into(id), soci::into(name);
    if (!session.got_data()) return;
    session << "DELETE FROM sessions WHERE token_hash = :hash", soci::use(hash);
    rows::record_event(session, now_ms_(), "user:" + name, "session.end", id,
                       Json({{"address", address}}).dump());
  });
}

void Sessions::record_refusal(const std::string& name, std::string_view by,
                              std::string_view address, int64_t others) {
  database_.write([&](soci::session& session) {
    const auto account = find_account(session, name);
    Json details = {{"by", by}, {"address", address}};
    if (account) details["name"] = name;
    if (others > 0) details["others"] = others;
    rows::record_event(session, now_ms_(), "nobody", "session.refuse",
                       account ? account->user.id : std::string(), details.dump());
  });
}

std::optional<Principal> Sessions::find(std::string_view token, const std::string& project) {
  if (token.size() != token_bytes) return std::nullopt;  // without asking the database
  const std::string hash = hash_of(token);
  const int64_t now_ms = now_ms_();
  bool is_noted = true;
  auto principal = database_.read([&](soci::session& session) -> std::optional<Principal> {
    std::string user_id, user_name, role;
    int64_t created_at_ms = 0, used_at_ms = 0;
    session << "SELECT u.id, u.name, u.role, s.created_at_ms, s.used_at_ms FROM sessions s JOIN "
               "users u ON u.id = s.user_id WHERE s.token_hash = :hash AND u.disabled_at_ms IS "
               "NULL",
        soci::use(hash), soci::into(user_id), soci::into(user_name), soci::into(role),
        soci::into(created_at_ms), soci::into(used_at_ms);
    const bool is_there = session.got_data();
    if (!is_there || now_ms - used_at_ms >= options_.idle.count() ||
        now_ms - created_at_ms >= options_.longest.count()) {
      return std::nullopt;
    }
    is_noted = now_ms - used_at_ms < noted_after_ms;
    const auto place =
        find_place(session, user_id, role_named(role).value_or(Role::viewer), project);
    if (!place) return std::nullopt;
    return principal_at(*place, user_id, user_name);
  });
  if (principal && !is_noted) {
    database_.write([&](soci::session& session) {
      session << "UPDATE sessions SET used_at_ms = :at WHERE token_hash = :hash", soci::use(now_ms),
          soci::use(hash);
    });
  }
  return principal;
}

std::optional<Principal> Sessions::principal_of(const std::string& user_id,
                                                const std::string& project_id) {
  return database_.read([&](soci::session& session) -> std::optional<Principal> {
    std::string name, role;
    session << "SELECT name, role FROM users WHERE id = :id AND disabled_at_ms IS NULL",
        soci::use(user_id), soci::into(name), soci::into(role);
    if (!session.got_data()) return std::nullopt;
    const auto places = places_of(session, user_id, role_named(role).value_or(Role::viewer),
                                  project_with_id, project_id, 1);
    if (places.empty()) return std::nullopt;
    return principal_at(places.front(), user_id, name);
  });
}

std::vector<ProjectOfUser> Sessions::projects_of(const std::string& user_id) {
  return database_.read([&](soci::session& session) {
    std::vector<ProjectOfUser> projects;
    std::string role;
    session << "SELECT role FROM users WHERE id = :id AND disabled_at_ms IS NULL",
        soci::use(user_id), soci::into(role);
    if (!session.got_data()) return projects;
    for (Place& place : places_of(session, user_id, role_named(role).value_or(Role::viewer),
                                  any_project, "", most_listed_projects)) {
      projects.push_back({std::move(place.project_name), place.role, place.keep_days});
    }
    return projects;
  });
}

void Sessions::set_password(const std::string& name, std::string_view password,
                            std::string_view kept, std::string_view actor) {
  const std::string hash = hash_password(password);
  const std::string kept_hash = hash_of(kept);
  database_.write([&](soci::session& session) {
    const User user = rows::user_named(session, name);
    if (user.kind != UserKind::person) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' is a service, and services have keys alone", name));
    }
    store_password(session, user.id, hash);
    session << "DELETE FROM sessions WHERE user_id = :user AND token_hash <> :kept",
        soci::use(user.id), soci::use(kept_hash);
    rows::record_change(session, now_ms_(), actor, "user.password", user.id,
                        Json({{"name", name}}).dump());
  });
}

bool Sessions::is_password(const std::string& name, std::string_view password) {
  const auto account =
      database_.read([&](soci::session& session) { return find_account(session, name); });
  const bool has_password = account && !account->password_hash.empty();
  return verify_password(has_password ? account->password_hash : decoy_hash_, password) &&
         has_password;
}

bool Sessions::needs_set_up() {
  return database_.read([this](soci::session& session) { return !has_owner(session); });
}

std::optional<std::string> Sessions::new_set_up_link() {
  const std::string link = "rgs_" + random_secret(), hash = hash_of(link);
  const bool is_made = database_.write([&](soci::session& session) {
    if (has_owner(session)) return false;
    const int64_t now_ms = now_ms_(), expires_at_ms = now_ms + options_.set_up_link.count();
    session << "DELETE FROM set_up_links WHERE expires_at_ms <= :now", soci::use(now_ms);
    session << "INSERT INTO set_up_links (token_hash, expires_at_ms) VALUES (:hash, :at)",
        soci::use(hash), soci::use(expires_at_ms);
    return true;
  });
  return is_made ? std::optional(link) : std::nullopt;
}

NewSession Sessions::set_up(std::string_view link, const std::string& name,
                            std::string_view password, std::string_view address) {
  const std::string link_hash = hash_of(link);
  // Before the work, which is not for those who have no link.
  const auto check = [&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    int64_t links = 0;
    session << "SELECT COUNT(*) FROM set_up_links WHERE token_hash = :hash AND expires_at_ms > "
               ":now",
        soci::use(link_hash), soci::use(now_ms), soci::into(links);
    if (links == 0 || has_owner(session)) {
      throw Error(ErrorCode::unauthenticated,
                  "this link is used up or too old; a start of the server prints a new one while "
                  "there is no owner with a password");
    }
  };
  database_.read(check);
  rows::check_name(name, "a user");
  const std::string hash = hash_password(password);
  return database_.write([&](soci::session& session) {
    check(session);
    const int64_t now_ms = now_ms_();
    rows::project_id(session, std::string(default_project), now_ms);
    if (!find_account(session, name)) {
      rows::insert_user(session, {.name = name, .role = Role::owner}, ProjectRole::developer,
                        now_ms, "set-up");
    }
    const User user = rows::user_named(session, name);
    if (user.role != Role::owner || user.kind != UserKind::person || user.disabled_at_ms) {
      throw Error(ErrorCode::already_exists,
                  fmt::format("there is a user '{}' already, who is no owner", name), "name");
    }
    store_password(session, user.id, hash);
    session << "DELETE FROM set_up_links";
    rows::record_change(session, now_ms, "set-up", "user.password", user.id,
                        Json({{"name", name}}).dump());
    return NewSession{insert_session(session, user, "set-up", address, now_ms), user};
  });
}

std::string Sessions::csrf_token(std::string_view token) {
  return hash_of("csrf " + std::string(token));
}

}  // namespace ridge::platform
