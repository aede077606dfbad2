#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"

namespace ridge::platform {

// What usage is added up by.
enum class UsageBy {
  day,
  project,
  key,
  model,
  endpoint,          // the path: "/v1/chat/completions"
  custom_endpoint,   // the operator's; "" where a model was asked by its own name
  endpoint_version,  // of that, as a number; "0"
  finish_reason,     // "stop", "length", "tool_calls", "failed", "cancelled" …
};

std::string_view name(UsageBy by);
std::optional<UsageBy> usage_by_named(std::string_view name);
std::string usage_by_names();  // with commas, for messages

// Which requests are added up: those that have ended and were admitted from `from_ms` up to before
// `until_ms`.
struct UsageQuery {
  int64_t from_ms = 0, until_ms = std::numeric_limits<int64_t>::max();
  std::vector<UsageBy> by;
  std::string project;  // of this one alone; empty: of all
  // More rows than this are refused.
  int most_rows = 50'000;
};

// What they used together.
struct UsageRow {
  // Of what the rows are by; the rest is empty.
  std::string day, project, key, model, endpoint, custom_endpoint, endpoint_version,
      finish_reason;
  int64_t requests = 0;
  int64_t failures = 0;  // of them, that ended as failed or cancelled
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompts
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;  // of the completions
  int64_t free_tokens = 0;       // of both, that cost nothing by an allowance
  int64_t micros = 0;            // the price
  double ttft_ms = 0;            // the mean
};

// The ledger's records added up, in order of what they are by. Throws as Database, and
// invalid_argument where there are too many rows.
std::vector<UsageRow> usage(Database& database, const UsageQuery& query);

// A request that has ended.
struct UsageRecord {
  std::string id;          // of the record; nobody else's, ever
  std::string request_id;  // as the client and the log have it
  int64_t at_ms = 0;       // when it was admitted
  std::string project, key;  // their names; of a person's session the user's
  std::string model, endpoint, custom_endpoint;
  int64_t endpoint_version = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  int64_t free_tokens = 0;
  double ttft_ms = 0, duration_ms = 0;
  std::string finish_reason;
  int64_t micros = 0;
};

// Which of them, and where to go on.
struct UsageRecordQuery {
  int64_t from_ms = 0, until_ms = std::numeric_limits<int64_t>::max();
  std::string project;  // its name; empty here and below: all
  std::string key;      // its name or id, or the name or id of a user for what sessions asked
  std::string model;
  std::string after;  // the id of a record, behind which the next ones come; empty: from the first on
  int most = 1'000;
};

// In the order of their times, and of their ids where these are the same: of a long range, however
// many there are, one page after the other. Throws as Database, and invalid_argument with the param
// `after` for a record that is not there (any more).
std::vector<UsageRecord> usage_records(Database& database, const UsageRecordQuery& query);

// Whether there are records of requests that were admitted before `until_ms`. Throws as Database.
bool has_usage_before(Database& database, int64_t until_ms);

// Takes away the records of requests that were admitted before `until_ms`, some at a time, so that
// servers at work hardly wait; until all are gone or `stop` is asked for. What limits are checked
// against stays. Returns how many there were, which the audit log has as well, with who asked, also
// where there were none. Throws as Database; what was taken away until then is gone.
int64_t forget_usage(Database& database, int64_t until_ms, std::string_view actor,
                     const std::stop_token& stop = {});

}  // namespace ridge::platform
