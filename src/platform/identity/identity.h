#pragma once

#include <cstdint>
#include <functional>
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

// Which keys are meant: an id ("key_..."), or a name in a project.
struct KeySelector {
  std::string id_or_name;
  std::string project = std::string(default_project);
};

// Organisation, projects, users and keys, and the record of their changes. There is one
// organisation, "default", and its project of that name is there from the first use on.
//
// Changes take the name of who makes them ("cli:alice"), which goes into the audit log together
// with the change. Beyond Database's errors, all throw not_found, already_exists for a name that is
// taken, and invalid_argument for a bad name or value. Names are 1 to 100 bytes of UTF-8 without
// control characters.
class Identity {
 public:
  using NowMs = std::function<int64_t()>;
  explicit Identity(Database& database, NowMs now_ms = wall_clock_ms);

  // `weight` from 0.01 to 100.
  Project create_project(const std::string& name, double weight, std::string_view actor);
  std::vector<Project> projects();  // by name

  // `project` is for services only.
  User create_user(const std::string& name, UserKind kind, Role role, const std::string& project,
                   std::string_view actor);
  // Its keys stop working; the user stays in the lists.
  User disable_user(const std::string& name, std::string_view actor);
  std::vector<User> users();  // by name

  // Among the keys of a project that are neither revoked nor rotated, names are unique.
  CreatedKey create_key(const NewKey& wanted, std::string_view actor);
  std::vector<ApiKey> keys();  // the newest last; those that no longer work among them
  // All keys of the name that are not revoked yet. Throws not_found where there is none.
  std::vector<ApiKey> revoke_keys(const KeySelector& which, std::string_view actor);
  // A new key with the name, rights and lifetime of the old one, which works for `grace_ms` more.
  CreatedKey rotate_key(const KeySelector& which, int64_t grace_ms, std::string_view actor);

  std::vector<AuditEvent> audit_events(int most);  // the newest first

  // For the authenticator. Both from one view of the data.
  struct Found {
    int64_t revision = 0;
    std::optional<Principal> principal;  // also for keys that no longer work
  };
  Found find_principal(const Digest& key_hash);
  // Grows with every change.
  int64_t revision();

  static int64_t wall_clock_ms();

 private:
  Database& database_;
  NowMs now_ms_;
};

}  // namespace ridge::platform
