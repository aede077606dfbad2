// What a request has used, once it has ended.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "platform/database/kept_statement.h"
#include "platform/metering/rows.h"

namespace ridge::platform::metering {
namespace {

struct Reserved {
  std::string organisation, project, key, allowance, user, request, model, endpoint, custom_endpoint,
      day, month, rates, free_model;
  int64_t endpoint_version = 0;
  int64_t admitted_at_ms = 0, tokens = 0, free_tokens = 0, is_abandoned = 0;
  Price price;
};

// Runs `statement`, which is for one id and returns the row that it was about, if there is one.
std::optional<Reserved> returned_by(Session& session, const std::string& statement,
                                    const std::string& id) {
  Reserved reserved;
  const bool is_there = run_kept(
      session,
      statement +
          " WHERE id = :id RETURNING organisation_id, project_id, key_id, user_id, request_id, "
          "model, endpoint, custom_endpoint, endpoint_version, day, month, admitted_at_ms, tokens, "
          "rates, is_abandoned, COALESCE(NULLIF(allowance_id, ''), key_id), prompt_micros, "
          "cached_micros, completion_micros, free_tokens, free_model",
      soci::use(id), soci::into(reserved.organisation), soci::into(reserved.project),
      soci::into(reserved.key), soci::into(reserved.user), soci::into(reserved.request),
      soci::into(reserved.model), soci::into(reserved.endpoint),
      soci::into(reserved.custom_endpoint),
      soci::into(reserved.endpoint_version), soci::into(reserved.day), soci::into(reserved.month),
      soci::into(reserved.admitted_at_ms), soci::into(reserved.tokens),
      soci::into(reserved.rates), soci::into(reserved.is_abandoned), soci::into(reserved.allowance),
      soci::into(reserved.price.prompt_micros), soci::into(reserved.price.cached_micros),
      soci::into(reserved.price.completion_micros),
      soci::into(reserved.free_tokens), soci::into(reserved.free_model));
  return is_there ? std::optional(std::move(reserved)) : std::nullopt;
}

// Gives back what was reserved of a minute's limits and not used: to those of the admission, as they
// were then, as nothing was taken from others.
void give_back(Session& session, const Reserved& reserved, const Settlement& settlement,
               int64_t now_us) {
  const int64_t prompt = settlement.is_void ? 0 : settlement.prompt_tokens;
  const int64_t completion = settlement.is_void ? 0 : settlement.completion_tokens;
  const auto used_of = [&](LimitKind kind) -> int64_t {
    if (kind == LimitKind::requests_per_minute) return settlement.is_void ? 0 : 1;
    if (kind == LimitKind::input_tokens_per_minute) return prompt;
    if (kind == LimitKind::output_tokens_per_minute) return completion;
    return prompt + completion;
  };
  for (const auto& [limit, units] : rates_of_text(reserved.rates)) {
    if (limit.most == 0) continue;
    const bool is_requests = limit.kind == LimitKind::requests_per_minute;
    const int64_t unused =
        units.value_or(is_requests ? 1 : reserved.tokens) - used_of(limit.kind);
    if (unused <= 0) continue;
    // Rounded down, as what was taken was rounded up: never more than that.
    const auto back_us =
        static_cast<int64_t>(static_cast<__int128>(unused) * rate_window_us / limit.most);
    const int64_t full_at = full_at_us(session, limit, now_us);
    set_full_at_us(session, limit, std::max(now_us, full_at - back_us));
  }
}

// What the record has that was made when the request was abandoned, without which it is as new.
// Takes it away; null where the operator has done so.
std::optional<Sums::Used> take_record(Session& session, const std::string& id) {
  Sums::Used used{.requests = 1};
  const bool is_there = run_kept(
      session,
      "SELECT prompt_tokens + completion_tokens, micros, free_tokens FROM usage_records WHERE id = "
      ":id",
      soci::use(id), soci::into(used.tokens), soci::into(used.micros),
      soci::into(used.free_tokens));
  if (!is_there) return std::nullopt;
  run_kept(session, "DELETE FROM usage_records WHERE id = :id", soci::use(id));
  return used;
}

void insert(Session& session, const Settlement& settlement, const Reserved& reserved,
            int64_t micros, int64_t free_tokens) {
  static const std::string text =
      std::string(insert_records) +
      "VALUES (:id, :at, :organisation, :project, :key, :request, :model, :endpoint, :prompt, "
      ":cached, :reasoning, :completion, :ttft, :duration, :reason, :micros, :custom, :version, "
      ":free)";
  run_kept(
      session, text,
      soci::use(settlement.id), soci::use(reserved.admitted_at_ms),
      soci::use(reserved.organisation), soci::use(reserved.project),
      soci::use(reserved.key), soci::use(reserved.request), soci::use(reserved.model),
      soci::use(reserved.endpoint),
      soci::use(settlement.prompt_tokens), soci::use(settlement.cached_tokens),
      soci::use(settlement.reasoning_tokens), soci::use(settlement.completion_tokens),
      soci::use(settlement.ttft_ms), soci::use(settlement.duration_ms),
      soci::use(settlement.finish_reason), soci::use(micros), soci::use(reserved.custom_endpoint),
      soci::use(reserved.endpoint_version), soci::use(free_tokens));
}

int64_t free_tokens_of(const Settlement& settlement, const Reserved& reserved) {
  return std::min(reserved.free_tokens, settlement.prompt_tokens + settlement.completion_tokens);
}

// Counts what was used beyond what the sums have of it.
void record(Session& session, const Settlement& settlement, const Reserved& reserved,
            const Sums::Used& before, Sums& sums, int64_t now_us) {
  give_back(session, reserved, settlement, now_us);
  if (settlement.is_void) return;
  const int64_t tokens = settlement.prompt_tokens + settlement.completion_tokens;
  const int64_t free_tokens = free_tokens_of(settlement, reserved);
  const int64_t micros =
      cost_micros(reserved.price, settlement.prompt_tokens, settlement.cached_tokens,
                  settlement.completion_tokens, free_tokens);
  insert(session, settlement, reserved, micros, free_tokens);
  const Sums::Used more{1 - before.requests, tokens - before.tokens, micros - before.micros};
  std::vector<std::string> models = {std::string(), reserved.model};
  if (!reserved.custom_endpoint.empty()) models.push_back(reserved.custom_endpoint);
  std::vector<std::string> subjects = {reserved.organisation, reserved.project, reserved.allowance};
  if (!reserved.user.empty() && reserved.user != reserved.allowance) {
    subjects.push_back(reserved.user);  // whose sessions have it as a key
  }
  for (const std::string& subject : subjects) {
    for (const std::string& model : models) {
      sums.add(subject, model, reserved.day, more);
      Sums::Used of_month = more;
      // Where the next admission looks for what was used of the project's free tokens.
      const bool has_free = subject == reserved.project && model == reserved.free_model;
      if (has_free && !model.empty()) of_month.free_tokens = free_tokens - before.free_tokens;
      sums.add(subject, model, reserved.month, of_month);
    }
  }
}

}  // namespace

void Sums::add(const std::string& subject, const std::string& model, const std::string& period,
               const Used& more) {
  Used& used = used_[{subject, model, period}];
  used.requests += more.requests;
  used.tokens += more.tokens;
  used.micros += more.micros;
  used.free_tokens += more.free_tokens;
}

void Sums::write(Session& session) const {
  constexpr std::size_t most_rows = 100;  // of one statement, as databases bound its values
  for (auto next = used_.begin(); next != used_.end();) {
    soci::statement add(session);
    std::string rows;
    for (std::size_t i = 0; i < most_rows && next != used_.end(); ++i, ++next) {
      const auto& [subject, model, period] = next->first;
      rows += fmt::format("{}(:s{}, :m{}, :p{}, {}, {}, {}, {})", i == 0 ? "" : ", ", i, i, i,
                          next->second.requests, next->second.tokens, next->second.micros,
                          next->second.free_tokens);
      add.exchange(soci::use(subject));
      add.exchange(soci::use(model));
      add.exchange(soci::use(period));
    }
    add.alloc();
    add.prepare("INSERT INTO usage_sums (subject, model, period, requests, tokens, micros, "
                "free_tokens) VALUES " +
                    rows + std::string(add_to_sums),
                soci::details::st_one_time_query);
    add.define_and_bind();
    add.execute(true);
  }
}

void settle(Session& session, const Settlement& settlement, Sums& sums, int64_t now_us) {
  const auto reserved = returned_by(session, "DELETE FROM reservations", settlement.id);
  if (!reserved) return;
  if (!reserved->is_abandoned) {
    record(session, settlement, *reserved, {}, sums, now_us);
  } else if (!settlement.is_void) {
    const auto before = take_record(session, settlement.id);
    if (before) record(session, settlement, *reserved, *before, sums, now_us);
  }
}

void abandon(Session& session, const Settlement& settlement, Sums& sums, int64_t now_us) {
  const auto reserved = returned_by(
      session, "UPDATE reservations SET is_abandoned = is_abandoned + 1", settlement.id);
  if (!reserved || reserved->is_abandoned > 1) return;
  // It holds nothing any more. Of free tokens it has those that it is known to have used, as others
  // may get the rest.
  const int64_t free_tokens = free_tokens_of(settlement, *reserved);
  run_kept(session,
           "UPDATE reservations SET tokens = 0, micros = 0, rates = '[]', free_tokens = :free WHERE "
           "id = :id",
           soci::use(free_tokens), soci::use(settlement.id));
  record(session, settlement, *reserved, {}, sums, now_us);
}

}  // namespace ridge::platform::metering
