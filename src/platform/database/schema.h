#pragma once

#include <cstdint>
#include <string_view>

#include "platform/database/connection.h"

namespace ridge::platform {

// The tables, as steps that are each taken once, in order, and never changed once released:
// schema/NNNN_name.sql. What has been done is kept in the table schema_steps.

// The last step that was taken; 0 for a database without our tables.
int64_t schema_version(soci::session& session, DatabaseKind kind);
// The last step that this program knows.
int64_t newest_schema_version();

// Whether every step was taken. Throws invalid_file where there are steps that this program does
// not know, because a newer one has used the database `name`.
bool is_schema_current(soci::session& session, DatabaseKind kind, std::string_view name);

// Takes the missing steps. Within one write, so that of several programs one does it, and a step
// that fails leaves nothing behind. Throws as is_schema_current().
void update_schema(soci::session& session, DatabaseKind kind, std::string_view name);

}  // namespace ridge::platform
