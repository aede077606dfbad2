#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/identity/records.h"

namespace soci {
class session;
}

// What the files of `identity` share: rows of its tables. Everything runs within one read() or
// write() of the database.
namespace ridge::platform::rows {

// A change: counted in identity_revision, recorded in audit_events. `details` is a JSON object.
void record_change(soci::session& session, int64_t at_ms, std::string_view actor,
                   std::string_view action, std::string_view subject, std::string_view details);

// The same of what changes no right: it is recorded, and servers need not look again.
void record_event(soci::session& session, int64_t at_ms, std::string_view actor,
                  std::string_view action, std::string_view subject, std::string_view details);

bool is_utf8(std::string_view text);
// Throws invalid_argument that says what the name is for.
void check_name(std::string_view name, std::string_view what);

// The id of the one organisation, made where it is missing.
std::string organisation_id(soci::session& session, int64_t now_ms);
// The project's id; null where there is none, whatever the name is.
std::optional<std::string> find_project_id(soci::session& session, const std::string& name);
// The same. Makes the default one where it is missing; throws not_found for others.
std::string project_id(soci::session& session, const std::string& name, int64_t now_ms);

// All that are not removed, by name; without their memberships.
std::vector<User> users(soci::session& session);
// Of a name that is not taken; makes the id. A person becomes a member of the user's `project`, or
// of the default one.
User insert_user(soci::session& session, User user, ProjectRole project_role, int64_t now_ms,
                 std::string_view actor);
// Throws invalid_argument where the user is the only owner: who could not be owner any more.
void check_owner_remains(soci::session& session, const User& without);
// Throws not_found.
User user_named(soci::session& session, const std::string& name);

// Throws invalid_argument, of the field `param`, for a membership that would be more than the
// user's own role allows.
void check_project_role(const std::string& user, Role of_user, ProjectRole wanted,
                        std::string_view param);
// As a row of project_members has it. What this program does not know gives the least.
ProjectRole project_role_in(const std::string& text);
void insert_member(soci::session& session, const std::string& project_id,
                   const std::string& user_id, ProjectRole role, int64_t now_ms);
std::optional<ProjectRole> membership(soci::session& session, const std::string& project_id,
                                      const std::string& user_id);
// Adds what the users are members of.
void add_memberships(soci::session& session, std::vector<User>& users);

// Which keys end; what is empty does not bound them.
struct EndingKeys {
  std::string project_id, user_id;
  bool without_membership = false;  // those alone whose owner is no member of their project
};
// Revokes what is not revoked yet, each with its record. Returns how many these were.
int64_t end_keys(soci::session& session, const EndingKeys& which, int64_t now_ms,
                 std::string_view actor);

}  // namespace ridge::platform::rows
