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
// The project's id. Makes the default one where it is missing; throws not_found for others.
std::string project_id(soci::session& session, const std::string& name, int64_t now_ms);

std::vector<User> users(soci::session& session);
// Of a name that is not taken; makes the id.
User insert_user(soci::session& session, User user, int64_t now_ms, std::string_view actor);
// Throws invalid_argument where the user is the only owner: who could not be owner any more.
void check_owner_remains(soci::session& session, const User& without);
// Throws not_found.
User user_named(soci::session& session, const std::string& name);

}  // namespace ridge::platform::rows
