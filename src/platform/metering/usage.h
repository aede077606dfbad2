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
  std::string day, project, key, model, endpoint, custom_endpoint, endpoint_version;
  int64_t requests = 0;
  int64_t failures = 0;  // of them, that ended as failed or cancelled
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompts
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;  // of the completions
  int64_t micros = 0;            // the price
  double ttft_ms = 0;            // the mean
};

// The ledger's records added up, in order of what they are by. Throws as Database, and
// invalid_argument where there are too many rows.
std::vector<UsageRow> usage(Database& database, const UsageQuery& query);

// Whether there are records of requests that were admitted before `until_ms`. Throws as Database.
bool has_usage_before(Database& database, int64_t until_ms);

// Takes away the records of requests that were admitted before `until_ms`, some at a time, so that
// servers at work hardly wait; until all are gone or `stop` is asked for. What limits are checked
// against stays. Returns how many there were, which the audit log has as well, with who asked, also
// where there were none. Throws as Database; what was taken away until then is gone.
int64_t forget_usage(Database& database, int64_t until_ms, std::string_view actor,
                     const std::stop_token& stop = {});

}  // namespace ridge::platform
