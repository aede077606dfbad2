#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"
#include "platform/identity/identity.h"
#include "platform/identity/principal.h"
#include "platform/identity/provider_user.h"

namespace ridge::platform {

struct SessionOptions {
  std::chrono::milliseconds idle{std::chrono::hours(12)};
  std::chrono::milliseconds longest{std::chrono::hours(24 * 7)};
  std::chrono::milliseconds set_up_link{std::chrono::hours(24)};
  int most_of_user = 20;      // sessions; the one that was begun first goes
  bool has_provider = false;  // that signs people in without a password
};

struct NewSession {
  std::string token;  // a secret: for the cookie, and kept as a hash alone
  User user;
};

// A project that somebody may act for, by name, with which role, and for how many days it keeps what
// is asked and answered (0: not at all).
struct ProjectOfUser {
  std::string name;
  Role role = Role::viewer;
  int64_t keep_days = 0;
};

// People who sign in with a password. `address` is where they do so from, for the audit log.
// Passwords are checked by the caller's thread, which takes some 20 ms and 19 MiB; all wait for the
// database. Beyond Database's errors, they throw as Identity does.
class Sessions {
 public:
  static constexpr int most_listed_projects = 1'000;

  explicit Sessions(Database& database, const SessionOptions& options = {},
                    Identity::NowMs now_ms = {});

  // Throws unauthenticated, after the same work, whether it is the name or the password that is
  // wrong, or the user is disabled or has no password. Throws permission_denied for who is a member
  // of no project.
  NewSession sign_in(const std::string& name, std::string_view password,
                     std::string_view address = {});
  // Of somebody whom a provider knows: the user who has signed in as the same subject before, or
  // else the one of this name, if nobody of a provider is that user yet, and then for ever. Who is
  // not there yet is made with `create_role`, if any; throws unauthenticated for who is not, or may
  // not sign in.
  NewSession sign_in_as(const ProviderUser& person, std::optional<Role> create_role,
                        std::string_view address = {});
  void sign_out(std::string_view token, std::string_view address = {});
  // That somebody could not sign in `by` a password or a provider; and how many others could not
  // since the last that was recorded. A name that no user has is left out: it may be a password.
  void record_refusal(const std::string& name, std::string_view by, std::string_view address,
                      int64_t others);

  // On whose behalf a request with this token comes, for a project ("": the default one, or who is
  // no member of that: the first of the user's by name), with the role that the user has there.
  // Null where nobody is signed in by it, or no longer, or the user is a member of no project any
  // more. Throws not_found for a project that is not there, or not the user's: one that the user is
  // a member of, or any for admins and owners.
  std::optional<Principal> find(std::string_view token, const std::string& project);

  // The same of a user, signed in or not, and the id of a project. Null where the user is disabled
  // or gone, or may no longer act for the project.
  std::optional<Principal> principal_of(const std::string& user_id, const std::string& project_id);

  // The projects that the user may act for, the one that is taken where none is named first, then
  // by name; at most most_listed_projects.
  std::vector<ProjectOfUser> projects_of(const std::string& user_id);

  // Ends the user's sessions but the one with the token `kept`.
  void set_password(const std::string& name, std::string_view password, std::string_view kept,
                    std::string_view actor);
  // Whether it is the user's; false also for one who is disabled or has none. The work is the same.
  bool is_password(const std::string& name, std::string_view password);

  // Whether there is no owner yet who can sign in, as any can where there is a provider.
  bool needs_set_up();
  // The secret by which somebody becomes the first owner; null where there is one.
  std::optional<std::string> new_set_up_link();
  // Once only for each secret, and never once there is such an owner: then throws unauthenticated.
  // The owner `name` is made where there is no user of this name; throws already_exists for one who
  // is something else.
  NewSession set_up(std::string_view link, const std::string& name, std::string_view password,
                    std::string_view address = {});

  // For the header that goes with a cookie, so that no other page can use it. Made of the token, so
  // that nothing has to be kept; tells nothing of it.
  static std::string csrf_token(std::string_view token);

 private:
  std::string insert_session(soci::session& session, const User& user, std::string_view by,
                             std::string_view address, int64_t now_ms);
  bool has_owner(soci::session& session) const;

  Database& database_;
  const SessionOptions options_;
  const Identity::NowMs now_ms_;
  const std::string decoy_hash_;  // is checked where there is no password
};

}  // namespace ridge::platform
