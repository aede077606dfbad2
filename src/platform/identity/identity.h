#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"
#include "platform/identity/api_key_text.h"
#include "platform/identity/principal.h"
#include "platform/identity/records.h"

namespace ridge::platform {

inline constexpr std::string_view default_project = "default";

// Of one key.
inline constexpr std::size_t most_key_models = 100, most_key_addresses = 100;
inline constexpr int64_t longest_key_lifetime_ms = int64_t{100} * 366 * 24 * 3600 * 1000;

struct NewKey {
  std::string name;
  std::string project = std::string(default_project);
  std::string user;  // its owner's name; empty: the project itself
  KeyRights rights;
  std::optional<int64_t> lifetime_ms;  // forever where there is none
};

struct CreatedKey {
  ApiKey key;
  ApiKeyText text;  // the only time that it can be seen
};

// Which keys are listed.
struct KeyQuery {
  std::string project, user;  // of these alone; empty: of all
  std::string after;          // the id of the last one of the page before; empty: from the first on
  int most = std::numeric_limits<int>::max();
};

// Which events of the audit log are read: the newest of those that all of this holds for.
struct AuditQuery {
  int most = 100;
  std::optional<int64_t> before;           // of those before the one with this number
  std::string text;                        // in actor, action, subject or details, in any case of
                                           // Latin letters; empty: any
  std::string action;                      // "key.create"; empty: any
  std::optional<int64_t> from_ms, until_ms;  // at from_ms or later, and before until_ms
};

// What is changed of a user.
struct UserChange {
  std::optional<Role> role;
  std::optional<bool> is_disabled;
  // Whoever of a provider signs in next with the user's name is the user from then on; sessions end.
  bool forgets_provider = false;
};

// Which keys are meant: an id ("key_..."), or a name in a project.
struct KeySelector {
  std::string id_or_name;
  std::string project = std::string(default_project);
};

// Organisation, projects, users and keys, and the record of their changes. There is one
// organisation, "default" (ADR 0037), and its project of that name is there from the first use on.
//
// Changes take the name of who makes them ("cli:alice"), which goes into the audit log together
// with the change. Beyond Database's errors, all throw not_found, already_exists for a name that is
// taken, and invalid_argument for a bad name or value. Names are 1 to 100 bytes of UTF-8 without
// control characters, and with no space at either end.
class Identity {
 public:
  using NowMs = std::function<int64_t()>;
  // `now_ms`, where it is one, else the clock of all who share the database, which goes on evenly.
  static NowMs clock_of(const Database& database, NowMs now_ms);
  explicit Identity(Database& database, NowMs now_ms = {});

  static constexpr std::size_t most_name_bytes = 100;
  static constexpr double least_weight = 0.01, most_weight = 100;
  static constexpr int most_keep_days = 3'650;

  Project create_project(const std::string& name, double weight, std::string_view actor);
  Project set_weight(const std::string& project, double weight, std::string_view actor);
  // For how many days prompts and answers are kept of its requests from now on; 0: they are not.
  // What is kept already, KeptRequests::forget_unkept takes away.
  Project set_keep_days(const std::string& project, int days, std::string_view actor);
  std::vector<Project> projects();  // by name
  std::string default_project_id();
  // Whether there is, or was, a project of this name, as usage tells of it.
  bool has_had_project(const std::string& name);
  // Ends all that the project has and may do. Its name is free then; what it used keeps it, as
  // "search (removed proj_...)". Throws invalid_argument for the project `default`.
  Project remove_project(const std::string& project, std::string_view actor);

  // By the users' names. Throws not_found for a project that is not there.
  std::vector<Member> members(const std::string& project);
  // Makes a person a member, or gives a member another role, which counts at once. Throws
  // invalid_argument for a service, and for a role that the user's own does not allow.
  Member set_member(const std::string& project, const std::string& user, ProjectRole role,
                    std::string_view actor);
  // Who was no member: not_found. Ends the keys that the user has in the project, unless the user
  // may act in all.
  Member remove_member(const std::string& project, const std::string& user, std::string_view actor);

  // A service is of `project`. A person becomes a member of it with `project_role`, or where none
  // is named of the default one.
  User create_user(const std::string& name, UserKind kind, Role role, const std::string& project,
                   std::string_view actor, std::optional<ProjectRole> project_role = {});
  // The keys of a disabled user stop working, and those of one with a lesser role can do less at
  // once; the user stays in the lists. Who is no admin any more acts for the projects whose member
  // the user is, and keys in others end.
  User change_user(const std::string& name, const UserChange& change, std::string_view actor);
  // Ends keys and sessions, and takes away what is the user's alone. The name is free then; what
  // was used keeps it, as "ann (removed user_...)". Throws invalid_argument for the only owner.
  User remove_user(const std::string& name, std::string_view actor);
  std::vector<User> users();  // by name
  std::optional<User> find_user(const std::string& name);

  // Among the keys of a project that are neither revoked nor rotated, names are unique. An owner
  // who may not act for the project is refused with invalid_argument.
  CreatedKey create_key(const NewKey& wanted, std::string_view actor);
  // The newest last; those that no longer work among them.
  std::vector<ApiKey> keys(const KeyQuery& query = {});
  std::optional<ApiKey> find_key(const std::string& id);
  // All keys of the name that are not revoked yet. Throws not_found where there is none.
  std::vector<ApiKey> revoke_keys(const KeySelector& which, std::string_view actor);
  // A new key with the name, rights, limits and lifetime of the old one, which works for `grace_ms`
  // more. What the old one used, and still uses, counts for the limits of both together.
  CreatedKey rotate_key(const KeySelector& which, int64_t grace_ms, std::string_view actor);

  // A change of something that is kept elsewhere.
  void record_event(std::string_view actor, std::string_view action, std::string_view subject);
  // The newest first.
  std::vector<AuditEvent> audit_events(const AuditQuery& query);
  std::vector<AuditEvent> audit_events(int most, std::optional<int64_t> before = {}) {
    return audit_events({.most = most, .before = before});
  }

  // For the authenticator. Both from one view of the data.
  struct Found {
    int64_t revision = 0;
    std::optional<Principal> principal;  // also for keys that no longer work
  };
  Found find_principal(const Digest& key_hash);
  // The same of a key that works, by its id; null for one that does not, or is not there.
  std::optional<Principal> principal_of(const std::string& key_id);
  // Grows with every change.
  int64_t revision();

  // By which keys end.
  int64_t now_ms() const { return now_ms_(); }
  static int64_t wall_clock_ms();
  // Whether it may be the name of a project, user, key or model.
  static bool is_name(std::string_view text, std::size_t most_bytes = most_name_bytes);

 private:
  Database& database_;
  NowMs now_ms_;
};

}  // namespace ridge::platform
