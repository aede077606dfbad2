#pragma once

#include <cstdint>
#include <vector>

#include "api/json_text.h"
#include "platform/endpoints/endpoint.h"
#include "platform/identity/records.h"
#include "platform/kept/kept_requests.h"
#include "platform/metering/limits.h"
#include "platform/metering/usage.h"

// The records of the platform as everybody reads them: clients of /api/v1, the console and
// `ridge ... --json`. Times are milliseconds since 1970.
namespace ridge::administration {

using api::Json;

Json json_of(const platform::Project& project);
Json json_of(const platform::User& user);
Json json_of(const platform::Member& member);
// With its state at a time: "active", "ending" (rotated, and in its grace), "expired", "revoked".
Json json_of(const platform::ApiKey& key, int64_t now_ms);
Json json_of(const platform::NamedLimit& limit);
Json json_of(const platform::ModelPrice& price);
enum class EndpointView {
  whole,    // for those who may change it
  outline,  // without the URL of the moderation, which may hold a secret, and without system prompts
};
Json json_of(const platform::Endpoint& endpoint, EndpointView view);
Json json_of(const platform::AuditEvent& event);
enum class KeptView {
  whole,
  outline,  // without what was asked and answered
};
Json json_of(const platform::KeptRequest& request, KeptView view);
Json json_of(const platform::UsageRow& row, const std::vector<platform::UsageBy>& by);
// With its time as "2026-11-28T12:00:00Z" too.
Json json_of(const platform::UsageRecord& record);

// Names the price of models without one of their own.
inline constexpr std::string_view any_model = "*";

// The same rows as a table of comma-separated values with a line of titles (RFC 4180, but that
// lines end in \n). Texts that a spreadsheet would take for a formula begin with an apostrophe.
std::string usage_csv(const std::vector<platform::UsageRow>& rows,
                      const std::vector<platform::UsageBy>& by);
// Likewise of records as json_of() has them, and their line of titles apart.
std::string usage_record_titles();
std::string usage_record_lines(const Json& records);

}  // namespace ridge::administration
