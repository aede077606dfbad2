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
  int64_t tokens = 0, micros = 0;
};

// What requests that have not ended may still use.
struct Open {
  int64_t requests = 0, day_tokens = 0, month_tokens = 0, month_micros = 0;
};

// What holds for a request.
struct Terms {
  Price price;
  std::vector<Limit> limits;
};

// In one query, as each is a way to the database and back.
Terms terms_of(Session& session, const Reservation& reservation) {
  Terms terms;
  int64_t is_limit = 0;
  Limit row;
  std::string kind;
  Price price;
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
        price_rank = rank;
      }
    } else if (known) {
      row.kind = *known;
      terms.limits.push_back(row);
    }
  };
  each_kept(session,
            "SELECT 0, '', model, '', 0, prompt_micros, cached_micros, completion_micros FROM "
            "prices WHERE model IN ('', :model, :custom) UNION ALL SELECT 1, subject, model, "
            "kind, most, 0, 0, 0 FROM limits WHERE subject IN (:organisation, :project, :key, "
            ":user) AND model IN ('', :model, :custom) ORDER BY 1, 2, 3, 4",
            take, soci::use(reservation.model, "model"), soci::use(endpoint, "custom"),
            soci::use(reservation.organisation_id, "organisation"),
            soci::use(reservation.project_id, "project"), soci::use(reservation.allowance_id, "key"),
            soci::use(reservation.user_id, "user"), soci::into(is_limit), soci::into(row.subject),
            soci::into(row.model), soci::into(kind), soci::into(row.most),
            soci::into(price.prompt_micros),
            soci::into(price.cached_micros), soci::into(price.completion_micros));
  return terms;
}

Open open_of(Session& session, const Limit& limit, const Asked& asked) {
  const Reservation& reservation = asked.reservation;
  std::string_view column = "organisation_id";
  if (limit.subject == reservation.project_id) column = "project_id";
  if (limit.subject == reservation.allowance_id) column = "allowance_id";
  if (limit.subject == reservation.user_id) column = "user_id";  // whose sessions have it as a key
  const std::string query = fmt::format(
      "SELECT COUNT(*), "
      "CAST(COALESCE(SUM(CASE WHEN day = :day THEN tokens ELSE 0 END), 0) AS BIGINT), "
      "CAST(COALESCE(SUM(CASE WHEN month = :month THEN tokens ELSE 0 END), 0) AS BIGINT), "
      "CAST(COALESCE(SUM(CASE WHEN month = :month THEN micros ELSE 0 END), 0) AS BIGINT) "
      "FROM reservations WHERE {} = :subject AND (model = :model OR custom_endpoint = :model OR "
      "'' = :model) AND is_abandoned = 0",
      column);
  Open open;
  run_kept(session, query, soci::use(asked.day, "day"), soci::use(asked.month, "month"),
           soci::use(limit.subject, "subject"), soci::use(limit.model, "model"),
           soci::into(open.requests), soci::into(open.day_tokens), soci::into(open.month_tokens),
           soci::into(open.month_micros));
  return open;
}

struct Sum {
  int64_t tokens = 0, micros = 0;
};

Sum sum_of(Session& session, const Limit& limit, const std::string& period) {
  Sum sum;
  const bool is_known = run_kept(
      session,
      "SELECT tokens, micros FROM usage_sums WHERE subject = :subject AND model = :model AND "
      "period = :period",
      soci::use(limit.subject), soci::use(limit.model), soci::use(period), soci::into(sum.tokens),
      soci::into(sum.micros));
  return is_known ? sum : Sum{};
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
  return {
      Refusal::Kind::too_large,
      fmt::format("this request may take {} tokens, its prompt and its answer's longest, which "
                  "is more than the limit {} of {} ever allows; lower max_tokens, or shorten "
                  "the prompt",
                  asked.tokens, whose(limit, asked.reservation), amount(limit.kind, limit.most))};
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
  return limit.kind == LimitKind::requests_per_minute ? 1 : asked.tokens;
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
  const Open open = open_of(session, limit, asked);
  if (limit.kind == LimitKind::concurrent_requests) {
    if (open.requests < limit.most) return std::nullopt;
    return refuse_for_now(limit, asked, concurrency_retry_ms);
  }
  int64_t left = limit.most, wanted = asked.tokens;
  if (limit.kind == LimitKind::tokens_per_day) {
    left -= sum_of(session, limit, asked.day).tokens + open.day_tokens;
  } else if (limit.kind == LimitKind::tokens_per_month) {
    left -= sum_of(session, limit, asked.month).tokens + open.month_tokens;
  } else {
    left -= sum_of(session, limit, asked.month).micros + open.month_micros;
    wanted = asked.micros;
  }
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
  auto& tightest =
      limit.kind == LimitKind::requests_per_minute ? admission.requests : admission.tokens;
  if (!tightest || standing.remaining < tightest->remaining) tightest = standing;
}

void insert(Session& session, const Asked& asked, const std::string& server,
            const std::string& rates) {
  const Reservation& reservation = asked.reservation;
  const int64_t now_ms = asked.now_us / 1000;
  const int64_t has_rates = rates == "[]" ? 0 : 1;  // for servers of before
  run_kept(
      session,
      "INSERT INTO reservations (id, server, organisation_id, project_id, key_id, user_id, "
      "request_id, model, endpoint, admitted_at_ms, day, month, tokens, micros, rates, has_rates, "
      "prompt_micros, cached_micros, completion_micros, custom_endpoint, endpoint_version, "
      "allowance_id, used_prompt_tokens, used_completion_tokens, is_abandoned) VALUES (:id, "
      ":server, :organisation, :project, :key, :user, :request, :model, :endpoint, :at, :day, "
      ":month, :tokens, :micros, :rates, :has_rates, :prompt, :cached, :completion, :custom, :version, "
      ":allowance, 0, 0, 0)",
      soci::use(reservation.id), soci::use(server), soci::use(reservation.organisation_id),
      soci::use(reservation.project_id), soci::use(reservation.key_id),
      soci::use(reservation.user_id), soci::use(reservation.request_id), soci::use(reservation.model),
      soci::use(reservation.endpoint), soci::use(now_ms), soci::use(asked.day),
      soci::use(asked.month), soci::use(asked.tokens), soci::use(asked.micros),
      soci::use(rates), soci::use(has_rates), soci::use(asked.price.prompt_micros),
      soci::use(asked.price.cached_micros), soci::use(asked.price.completion_micros),
      soci::use(reservation.custom_endpoint), soci::use(reservation.endpoint_version),
      soci::use(reservation.allowance_id));
}

}  // namespace

Admission admit(Session& session, const Reservation& reservation, const std::string& server,
                int64_t now_us) {
  const Terms terms = terms_of(session, reservation);
  const std::vector<Limit>& limits = terms.limits;
  Asked asked{.reservation = reservation,
              .now_us = now_us,
              .day = day_of(now_us),
              .month = month_of(now_us),
              .price = terms.price,
              .tokens = reservation.prompt_tokens + reservation.most_completion_tokens};
  asked.micros =
      cost_micros(asked.price, reservation.prompt_tokens, 0, reservation.most_completion_tokens);
  Admission admission;
  std::vector<int64_t> full_at;  // of limits; 0 of those that are no rates
  for (const Limit& limit : limits) {
    full_at.push_back(is_rate(limit.kind) ? full_at_us(session, limit, now_us) : 0);
    auto refusal = check(session, limit, asked, full_at.back());
    if (refusal && (!admission.refusal || is_worse(*refusal, *admission.refusal))) {
      admission.refusal = std::move(refusal);
    }
  }
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const Limit& limit = limits[i];
    if (!is_rate(limit.kind)) continue;
    if (!admission.refusal) {
      full_at[i] += limit.most > 0 ? rate_cost_us(units_of(limit, asked), limit.most) : 0;
      set_full_at_us(session, limit, full_at[i]);
    }
    note_standing(limit, full_at[i], now_us, admission);
  }
  if (!admission.refusal) insert(session, asked, server, text_of_rates(limits));
  return admission;
}

}  // namespace ridge::platform::metering
