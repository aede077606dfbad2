// Whether a request may begin.
#include <fmt/format.h>

#include <algorithm>

#include "platform/database/kept_statement.h"
#include "platform/metering/rows.h"

namespace ridge::platform::metering {
namespace {

constexpr int64_t concurrency_retry_ms = 1'000;  // nobody knows when an answer ends

struct Asked {
  const Reservation& reservation;
  int64_t now_us = 0;
  std::string day, month;
  Price price;
  std::string free_model;  // whose free tokens there are; empty: none
  int64_t tokens = 0, free_tokens = 0, micros = 0;
};

// What holds for a request.
struct Terms {
  struct Standing {
    Limit limit;
    int64_t full_at_us = 0;  // of a limit a minute, as the database has it
  };

  Price price;
  std::string priced_model;  // whose price that is; empty where it is of all models
  std::vector<Standing> limits;
};

// In one query, as each is a way to the database and back.
Terms terms_of(Session& session, const Reservation& reservation) {
  Terms terms;
  int64_t is_limit = 0;
  Limit row;
  std::string kind;
  Price price;
  int64_t full_at_us = 0;
  int price_rank = -1;  // the endpoint's goes before the model's, and that before that of all
  const std::string& endpoint = reservation.custom_endpoint;
  const auto rank_of = [&](const std::string& model) {
    if (model.empty()) return 0;
    return model == endpoint ? 2 : 1;
  };
  const auto take = [&] {
    const auto known = limit_kind_named(kind);
    if (is_limit == 0) {
      if (const int rank = rank_of(row.model); rank > price_rank) {
        terms.price = price;
        terms.priced_model = row.model;
        price_rank = rank;
      }
    } else if (known) {
      row.kind = *known;
      terms.limits.push_back({row, full_at_us});
    }
  };
  each_kept(session,
            "SELECT 0, '', model, '', 0, prompt_micros, cached_micros, completion_micros, "
            "free_tokens, 0 FROM prices WHERE model IN ('', :model, :custom) UNION ALL SELECT 1, "
            "l.subject, l.model, l.kind, l.most, 0, 0, 0, 0, COALESCE(r.full_at_us, 0) FROM limits "
            "l LEFT JOIN rate_levels r ON r.subject = l.subject AND r.model = l.model AND r.kind = "
            "l.kind WHERE l.subject IN (:organisation, :project, :key, :user) AND l.model IN ('', "
            ":model, :custom) ORDER BY 1, 2, 3, 4",
            take, soci::use(reservation.model, "model"), soci::use(endpoint, "custom"),
            soci::use(reservation.organisation_id, "organisation"),
            soci::use(reservation.project_id, "project"), soci::use(reservation.allowance_id, "key"),
            soci::use(reservation.user_id, "user"), soci::into(is_limit), soci::into(row.subject),
            soci::into(row.model), soci::into(kind), soci::into(row.most),
            soci::into(price.prompt_micros),
            soci::into(price.cached_micros), soci::into(price.completion_micros),
            soci::into(price.free_tokens), soci::into(full_at_us));
  return terms;
}

// Of reservations, whose a limit is.
std::string_view column_of(const Limit& limit, const Reservation& reservation) {
  if (limit.subject == reservation.user_id) return "user_id";  // whose sessions have it as a key
  if (limit.subject == reservation.allowance_id) return "allowance_id";
  if (limit.subject == reservation.project_id) return "project_id";
  return "organisation_id";
}

int64_t open_requests(Session& session, const Limit& limit, const Asked& asked) {
  const std::string query = fmt::format(
      "SELECT COUNT(*) FROM reservations WHERE {} = :subject AND (model = :model OR "
      "custom_endpoint = :model OR '' = :model) AND is_abandoned = 0",
      column_of(limit, asked.reservation));
  int64_t open = 0;
  run_kept(session, query, soci::use(limit.subject, "subject"), soci::use(limit.model, "model"),
           soci::into(open));
  return open;
}

// What was used of an allowance, and what requests that have not ended may still use. In one query,
// which sees each of them either as open or as ended: they end also beside this transaction.
int64_t taken_of(Session& session, const Limit& limit, const Asked& asked) {
  const bool is_day = limit.kind == LimitKind::tokens_per_day;
  const std::string_view unit = limit.kind == LimitKind::micros_per_month ? "micros" : "tokens";
  const std::string query = fmt::format(
      "SELECT COALESCE((SELECT {0} FROM usage_sums WHERE subject = :subject AND model = :model AND "
      "period = :period), 0) + (SELECT CAST(COALESCE(SUM({0}), 0) AS BIGINT) FROM reservations "
      "WHERE {1} = :subject AND (model = :model OR custom_endpoint = :model OR '' = :model) AND "
      "{2} = :period AND is_abandoned = 0)",
      unit, column_of(limit, asked.reservation), is_day ? "day" : "month");
  int64_t taken = 0;
  run_kept(session, query, soci::use(limit.subject, "subject"), soci::use(limit.model, "model"),
           soci::use(is_day ? asked.day : asked.month, "period"), soci::into(taken));
  return taken;
}

// The same of the month's free tokens.
int64_t free_tokens_taken(Session& session, const Asked& asked) {
  int64_t taken = 0;
  run_kept(session,
           "SELECT COALESCE((SELECT free_tokens FROM usage_sums WHERE subject = :project AND model "
           "= :model AND period = :month), 0) + (SELECT CAST(COALESCE(SUM(free_tokens), 0) AS "
           "BIGINT) FROM reservations WHERE project_id = :project AND free_model = :model AND month "
           "= :month AND is_abandoned = 0)",
           soci::use(asked.reservation.project_id, "project"),
           soci::use(asked.free_model, "model"), soci::use(asked.month, "month"),
           soci::into(taken));
  return taken;
}

std::string whose(const Limit& limit, const Reservation& reservation) {
  std::string text = "of the organisation";
  if (limit.subject == reservation.project_id) text = "of this project";
  if (limit.subject == reservation.allowance_id) text = "of this API key";
  if (limit.subject == reservation.user_id) text = "of this user";
  const bool is_of_endpoint = limit.model == reservation.custom_endpoint;
  if (!limit.model.empty()) {
    text += fmt::format(" for the {} '{}'", is_of_endpoint ? "endpoint" : "model", limit.model);
  }
  return text;
}

std::string amount(LimitKind kind, int64_t most) {
  const std::string_view plural = most == 1 ? "" : "s";
  switch (kind) {
    case LimitKind::requests_per_minute:
      return fmt::format("{} request{} a minute", most, plural);
    case LimitKind::tokens_per_minute:
      return fmt::format("{} token{} a minute", most, plural);
    case LimitKind::input_tokens_per_minute:
      return fmt::format("{} input token{} a minute", most, plural);
    case LimitKind::output_tokens_per_minute:
      return fmt::format("{} output token{} a minute", most, plural);
    case LimitKind::concurrent_requests:
      return fmt::format("{} request{} at once", most, plural);
    case LimitKind::tokens_per_day:
      return fmt::format("{} token{} a day", most, plural);
    case LimitKind::tokens_per_month:
      return fmt::format("{} token{} a month", most, plural);
    case LimitKind::micros_per_month:
      return fmt::format("{:.2f} a month", static_cast<double>(most) / 1e6);
  }
  return {};
}

Refusal refuse_for_good(const Limit& limit, const Asked& asked) {
  const Reservation& reservation = asked.reservation;
  const std::string bound = fmt::format("which is more than the limit {} of {} ever allows",
                                        whose(limit, reservation), amount(limit.kind, limit.most));
  std::string message;
  if (limit.kind == LimitKind::input_tokens_per_minute) {
    message = fmt::format("the prompt of this request has {} tokens, {}; shorten it",
                          reservation.prompt_tokens, bound);
  } else if (limit.kind == LimitKind::output_tokens_per_minute) {
    message = fmt::format("the answer of this request may take {} tokens, {}; lower max_tokens",
                          reservation.most_completion_tokens, bound);
  } else {
    message = fmt::format(
        "this request may take {} tokens, its prompt and its answer's longest, {}; lower "
        "max_tokens, or shorten the prompt",
        asked.tokens, bound);
  }
  return {Refusal::Kind::too_large, std::move(message)};
}

Refusal refuse_spent(const Limit& limit, const Asked& asked, int64_t left) {
  const bool is_day = limit.kind == LimitKind::tokens_per_day;
  const bool is_money = limit.kind == LimitKind::micros_per_month;
  left = std::max<int64_t>(0, left);
  const std::string wanted =
      is_money
          ? fmt::format("{:.6f} may be needed, and {:.6f} is left",
                        static_cast<double>(asked.micros) / 1e6, static_cast<double>(left) / 1e6)
          : fmt::format("this request may take {} tokens, and {} are left", asked.tokens, left);
  return {Refusal::Kind::spent,
          fmt::format("the allowance {} of {} is used up: {}; a new one begins with the next {} in "
                      "UTC",
                      whose(limit, asked.reservation), amount(limit.kind, limit.most), wanted,
                      is_day ? "day" : "month")};
}

// Waiting would not help, so that it is no 429.
Refusal refuse_any(const Limit& limit, const Asked& asked) {
  return {Refusal::Kind::spent,
          fmt::format("the limit {} of {} allows no request at all",
                      whose(limit, asked.reservation), amount(limit.kind, limit.most))};
}

Refusal refuse_for_now(const Limit& limit, const Asked& asked, int64_t retry_after_ms) {
  return {Refusal::Kind::rate,
          fmt::format("the limit {} of {} is reached; try again in {:.1f} s",
                      whose(limit, asked.reservation), amount(limit.kind, limit.most),
                      static_cast<double>(retry_after_ms) / 1000),
          retry_after_ms};
}

int64_t units_of(const Limit& limit, const Asked& asked) {
  switch (limit.kind) {
    case LimitKind::requests_per_minute:
      return 1;
    case LimitKind::input_tokens_per_minute:
      return asked.reservation.prompt_tokens;
    case LimitKind::output_tokens_per_minute:
      return asked.reservation.most_completion_tokens;
    default:
      return asked.tokens;
  }
}

std::optional<Refusal> check_rate(const Limit& limit, const Asked& asked, int64_t full_at) {
  const int64_t units = units_of(limit, asked);
  if (units == 0) return std::nullopt;
  if (units > limit.most) return refuse_for_good(limit, asked);
  const int64_t wait_us = full_at + rate_cost_us(units, limit.most) - asked.now_us - rate_window_us;
  if (wait_us <= 0) return std::nullopt;
  return refuse_for_now(limit, asked, (wait_us + 999) / 1000);
}

std::optional<Refusal> check_allowance(Session& session, const Limit& limit,
                                       const Asked& asked) {
  if (limit.kind == LimitKind::concurrent_requests) {
    if (open_requests(session, limit, asked) < limit.most) return std::nullopt;
    return refuse_for_now(limit, asked, concurrency_retry_ms);
  }
  const int64_t left = limit.most - taken_of(session, limit, asked);
  const bool is_money = limit.kind == LimitKind::micros_per_month;
  const int64_t wanted = is_money ? asked.micros : asked.tokens;
  if (wanted <= left) return std::nullopt;
  return refuse_spent(limit, asked, left);
}

// full_at: of a rate, full_at_us().
std::optional<Refusal> check(Session& session, const Limit& limit, const Asked& asked,
                             int64_t full_at) {
  // What costs nothing is within a budget of nothing.
  if (limit.most == 0 && limit.kind != LimitKind::micros_per_month) return refuse_any(limit, asked);
  return is_rate(limit.kind) ? check_rate(limit, asked, full_at)
                             : check_allowance(session, limit, asked);
}

// The one that says most about what helps.
bool is_worse(const Refusal& a, const Refusal& b) {
  if (a.kind != b.kind) return a.kind > b.kind;
  return a.retry_after_ms > b.retry_after_ms;
}

void note_standing(const Limit& limit, int64_t full_at, int64_t now_us, Admission& admission) {
  RateStanding standing{.most = limit.most};
  standing.remaining = static_cast<int64_t>(
      static_cast<__int128>(rate_window_us - (full_at - now_us)) * limit.most / rate_window_us);
  standing.reset_ms = (full_at - now_us + 999) / 1000;
  auto* tightest = &admission.tokens;
  if (limit.kind == LimitKind::requests_per_minute) tightest = &admission.requests;
  if (limit.kind == LimitKind::input_tokens_per_minute) tightest = &admission.input_tokens;
  if (limit.kind == LimitKind::output_tokens_per_minute) tightest = &admission.output_tokens;
  if (!*tightest || standing.remaining < (*tightest)->remaining) *tightest = standing;
}

void insert(Session& session, const Asked& asked, const std::string& server,
            const std::string& rates) {
  const Reservation& reservation = asked.reservation;
  const int64_t now_ms = asked.now_us / 1000;
  const int64_t has_rates = rates == "[]" ? 0 : 1;  // for servers of before
  static const std::string text =
      std::string(insert_reservations) +
      "VALUES (:id, :server, :organisation, :project, :key, :user, :request, :model, :endpoint, "
      ":at, :day, :month, :tokens, :micros, :rates, :has_rates, :prompt, :cached, :completion, "
      ":custom, :version, :allowance, 0, 0, 0, :free, :free_model)";
  run_kept(
      session, text,
      soci::use(reservation.id), soci::use(server), soci::use(reservation.organisation_id),
      soci::use(reservation.project_id), soci::use(reservation.key_id),
      soci::use(reservation.user_id), soci::use(reservation.request_id), soci::use(reservation.model),
      soci::use(reservation.endpoint), soci::use(now_ms), soci::use(asked.day),
      soci::use(asked.month), soci::use(asked.tokens), soci::use(asked.micros),
      soci::use(rates), soci::use(has_rates), soci::use(asked.price.prompt_micros),
      soci::use(asked.price.cached_micros), soci::use(asked.price.completion_micros),
      soci::use(reservation.custom_endpoint), soci::use(reservation.endpoint_version),
      soci::use(reservation.allowance_id), soci::use(asked.free_tokens),
      soci::use(asked.free_model));
}

}  // namespace

Admission admit(Session& session, const Reservation& reservation, const std::string& server,
                int64_t now_us) {
  const Terms terms = terms_of(session, reservation);
  Asked asked{.reservation = reservation,
              .now_us = now_us,
              .day = day_of(now_us),
              .month = month_of(now_us),
              .price = terms.price,
              .tokens = reservation.prompt_tokens + reservation.most_completion_tokens};
  if (const int64_t free = terms.price.free_tokens; free > 0) {
    asked.free_model = terms.priced_model.empty() ? reservation.model : terms.priced_model;
    asked.free_tokens = std::clamp<int64_t>(free - free_tokens_taken(session, asked), 0, asked.tokens);
  }
  asked.micros = cost_micros(asked.price, reservation.prompt_tokens, 0,
                             reservation.most_completion_tokens, asked.free_tokens);
  Admission admission{.is_limited = !terms.limits.empty() || !asked.free_model.empty()};
  std::vector<RateTaken> rates;
  std::vector<int64_t> full_at;  // of these
  for (const auto& [limit, known_full_at] : terms.limits) {
    int64_t at = 0;
    if (is_rate(limit.kind)) {
      at = full_at_us(session, limit, known_full_at, now_us);
      rates.push_back({limit, units_of(limit, asked)});
      full_at.push_back(at);
    }
    auto refusal = check(session, limit, asked, at);
    if (refusal && (!admission.refusal || is_worse(*refusal, *admission.refusal))) {
      admission.refusal = std::move(refusal);
    }
  }
  for (std::size_t i = 0; i < rates.size(); ++i) {
    const Limit& limit = rates[i].limit;
    if (!admission.refusal) {
      full_at[i] += limit.most > 0 ? rate_cost_us(*rates[i].units, limit.most) : 0;
      set_full_at_us(session, limit, full_at[i]);
    }
    note_standing(limit, full_at[i], now_us, admission);
  }
  if (!admission.refusal) insert(session, asked, server, text_of_rates(rates));
  return admission;
}

}  // namespace ridge::platform::metering
