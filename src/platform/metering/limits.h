#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

// What is limited. A minute's are speeds, answered with 429 and the time to wait; a day's and a
// month's are allowances, answered with 402 once they are spent. Days and months are UTC's.
enum class LimitKind {
  requests_per_minute,
  tokens_per_minute,  // prompt and answer together, here and below
  input_tokens_per_minute,   // prompts alone
  output_tokens_per_minute,  // answers alone
  concurrent_requests,
  tokens_per_day,
  tokens_per_month,
  micros_per_month,  // money, in millionths of the operator's currency
};
inline constexpr LimitKind limit_kinds[] = {
    LimitKind::requests_per_minute,     LimitKind::tokens_per_minute,
    LimitKind::input_tokens_per_minute, LimitKind::output_tokens_per_minute,
    LimitKind::concurrent_requests,     LimitKind::tokens_per_day,
    LimitKind::tokens_per_month,        LimitKind::micros_per_month};

std::string_view name(LimitKind kind);
std::optional<LimitKind> limit_kind_named(std::string_view name);
std::string limit_kind_names();  // with commas, for messages
bool is_rate(LimitKind kind);

// Whom a limit is for: a key of a project; without a key the project; a user over all of the keys and
// sessions; without any of these everybody.
struct LimitSubject {
  std::string project;
  std::string key;   // its name or id
  std::string user;  // its name; goes with neither of the others
};

struct Limit {
  std::string subject;  // the id of the organisation, project, key or user
  std::string model;    // empty: all models together
  LimitKind kind = LimitKind::requests_per_minute;
  int64_t most = 0;
};

// A limit with the names of whom it is for.
struct NamedLimit {
  Limit limit;
  std::string project;  // empty for the organisation and for a user
  std::string key;      // empty for a project
  std::string user;     // empty for all others
};

// Micros for a million tokens.
struct Price {
  int64_t prompt_micros = 0;
  int64_t cached_micros = 0;  // of prompt tokens that the prefix cache had; at most prompt_micros
  int64_t completion_micros = 0;
  // Of each project and month, the first so many cost nothing: of each model for itself, also where
  // this is the price of several. A request gets what is left of them when it begins, in the order
  // of its tokens, the prompt's first, and what it has not used of them comes back when it ends.
  int64_t free_tokens = 0;
};

struct ModelPrice {
  std::string model;  // empty: those without a price of their own
  Price price;
};

// The limits and prices of an organisation. Changes work at once, on every server, and go into the
// audit log with who makes them. Beyond Database's errors, all throw not_found for a project, key
// or user that does not exist and invalid_argument for a bad value.
class Limits {
 public:
  static constexpr int64_t most_rows = 10'000;  // of limits, and of prices

  explicit Limits(Database& database, Identity::NowMs now_ms = {});

  static constexpr int64_t largest_limit = 1'000'000'000'000'000;
  static constexpr int64_t largest_price_micros = 1'000'000'000'000;

  // `most` from 0 (nothing at all) to the largest; nullopt takes the limit away.
  void set(const LimitSubject& subject, const std::string& model, LimitKind kind,
           std::optional<int64_t> most, std::string_view actor);
  std::vector<NamedLimit> list();

  // From 0 to the largest for each; nullopt takes the price away.
  void set_price(const std::string& model, const std::optional<Price>& price,
                 std::string_view actor);
  std::vector<ModelPrice> prices();

 private:
  Database& database_;
  Identity::NowMs now_ms_;
};

}  // namespace ridge::platform
