// What is told of recent requests.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "api/answer.h"
#include "api/json_text.h"
#include "api/request_record.h"
#include "api/url_query.h"

namespace ridge::api {
namespace {

using engine::TraceEvent;
using Kind = TraceEvent::Kind;

// To a microsecond, so that no noise of floating point is shown.
double shown_ms(Clock::Duration duration) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return static_cast<double>(us) / 1000;
}

std::string_view reason_name(engine::FinishReason reason) {
  if (reason == engine::FinishReason::cancelled) return "cancelled";
  if (reason == engine::FinishReason::failed) return "failed";
  return openai_finish_reason(reason);
}

// Where a request stands. One with several prompts or choices runs while any of them has a place,
// and while what they have said is on its way; it waits while none has and some have not ended.
struct Standing {
  std::string_view state = "preparing";
  std::string_view waits_for;
};

Standing standing_of(const RequestRecord::Snapshot& record) {
  if (record.ended) return {"finished", ""};
  Standing standing;
  for (const engine::RequestTrace::Snapshot& trace : record.traces) {
    if (trace.running_choices > 0) return {"running", ""};
    if (trace.ended_choices >= record.asked.choices) {
      if (standing.state != "waiting") standing = {"running", ""};
      continue;
    }
    standing = {"waiting", trace.waits_for ? name(*trace.waits_for) : ""};
  }
  return standing;
}

Json usage_of(const RequestRecord::Snapshot& record) {
  engine::Usage usage = record.usage;
  int drafted = 0, accepted = 0;
  for (const engine::RequestTrace::Snapshot& trace : record.traces) {
    if (!record.ended) usage.completion_tokens += trace.generated_tokens;
    drafted += trace.draft_tokens;
    accepted += trace.accepted_tokens;
  }
  return {{"prompt_tokens", usage.prompt_tokens},
          {"cached_tokens", usage.cached_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"reasoning_tokens", usage.reasoning_tokens},
          {"draft_tokens", drafted},
          {"accepted_draft_tokens", accepted}};
}

// From the arrival of the request to the first event of the kind in any of its prompts.
Json time_of(const RequestRecord& record, const RequestRecord::Snapshot& now, Kind kind) {
  const TraceEvent* const first = now.first(kind);
  return first == nullptr ? Json(nullptr) : Json(shown_ms(first->at - record.origin.arrived));
}

Json summary(const RequestRecord& record, const RequestRecord::Snapshot& now,
             Clock::TimePoint time) {
  const Standing standing = standing_of(now);
  const auto created = std::chrono::duration_cast<std::chrono::milliseconds>(
      record.origin.arrived_at.time_since_epoch());
  Json reasons = Json::array();
  for (const engine::RequestTrace::Snapshot& trace : now.traces) {
    for (const TraceEvent& event : trace.events) {
      if (event.kind == Kind::finished) reasons.push_back(reason_name(event.reason));
    }
  }
  return {{"id", record.origin.id},
          {"object", "request"},
          {"response_id", or_null(now.answer_id)},
          {"endpoint", record.origin.endpoint},
          {"model", or_null(now.model)},
          {"created_at", static_cast<double>(created.count()) / 1000},
          {"state", standing.state},
          {"waits_for", or_null(standing.waits_for)},
          {"status", now.status == 0 ? Json(nullptr) : Json(now.status)},
          {"error", or_null(now.error)},
          {"finish_reasons", std::move(reasons)},
          {"usage", usage_of(now)},
          {"admitted_ms", time_of(record, now, Kind::admitted)},
          {"first_token_ms", time_of(record, now, Kind::first_token)},
          {"duration_ms", shown_ms(now.ended.value_or(time) - record.origin.arrived)},
          {"trace_id", record.origin.context.trace_id}};
}

Json event_json(const TraceEvent& event, std::size_t prompt, Clock::TimePoint arrived) {
  Json json = {{"at_ms", shown_ms(event.at - arrived)},
               {"event", name(event.kind)},
               {"prompt", prompt},
               {"choice", event.choice}};
  switch (event.kind) {
    case Kind::queued:
    case Kind::first_token:
      break;
    case Kind::waiting:
      json["waits_for"] = name(event.wait);
      break;
    case Kind::preempted:
      json["waits_for"] = name(event.wait);
      json["generated_tokens"] = event.tokens;
      break;
    case Kind::admitted:
    case Kind::resumed:
      json["cached_tokens"] = event.cached_tokens;
      json["restored_blocks"] = event.restored_blocks;
      break;
    case Kind::prefill:
      json["first_token"] = event.first;
      json["tokens"] = event.tokens;
      json["steps"] = event.steps;
      json["duration_ms"] = std::round(event.step_ms * 1000) / 1000;
      break;
    case Kind::finished:
      json["finish_reason"] = reason_name(event.reason);
      json["generated_tokens"] = event.tokens;
      break;
  }
  return json;
}

}  // namespace

std::string request_list_body(const std::vector<std::shared_ptr<const RequestRecord>>& records,
                              std::string_view query, Clock::TimePoint now) {
  const std::size_t limit = query_limit(query);
  const auto state = query_value(query, "state");
  constexpr std::string_view states[] = {"preparing", "waiting", "running", "finished"};
  if (state && std::ranges::find(states, *state) == std::end(states)) {
    throw Error(ErrorCode::invalid_argument,
                "'state' must be preparing, waiting, running or finished", "state");
  }
  Json data = Json::array();
  bool has_more = false;
  for (const auto& record : records) {
    const RequestRecord::Snapshot snapshot = record->snapshot();
    if (state && standing_of(snapshot).state != *state) continue;
    has_more = data.size() == limit;
    if (has_more) break;
    data.push_back(summary(*record, snapshot, now));
  }
  return to_text({{"object", "list"}, {"data", std::move(data)}, {"has_more", has_more}});
}

Json working_requests(const std::vector<std::shared_ptr<const RequestRecord>>& records,
                      Clock::TimePoint now) {
  Json data = Json::array();
  for (const auto& record : records) {
    const RequestRecord::Snapshot snapshot = record->snapshot();
    const Standing standing = standing_of(snapshot);
    if (standing.state != "waiting" && standing.state != "running") continue;
    const TraceEvent* const admitted = snapshot.first(Kind::admitted);
    const Clock::TimePoint waited_until = admitted != nullptr ? admitted->at : now;
    data.push_back({{"id", record->origin.id},
                    {"project", or_null(record->origin.project)},
                    {"key", or_null(record->origin.key)},
                    {"model", snapshot.model},
                    {"state", standing.state},
                    {"reason", or_null(standing.waits_for)},
                    {"waited_ms", shown_ms(waited_until - record->origin.arrived)},
                    {"prompt_tokens", snapshot.asked.prompt_tokens},
                    {"completion_tokens", usage_of(snapshot).at("completion_tokens")}});
  }
  return {{"data", std::move(data)}};
}

std::string request_body(const RequestRecord& record, Clock::TimePoint now) {
  const RequestRecord::Snapshot snapshot = record.snapshot();
  Json body = summary(record, snapshot, now);
  std::vector<std::pair<const TraceEvent*, std::size_t>> events;
  int dropped = 0;
  for (std::size_t prompt = 0; prompt < snapshot.traces.size(); ++prompt) {
    dropped += snapshot.traces[prompt].dropped_events;
    for (const TraceEvent& event : snapshot.traces[prompt].events)
      events.emplace_back(&event, prompt);
  }
  std::ranges::stable_sort(events, {}, [](const auto& each) { return each.first->at; });
  Json list = Json::array();
  for (const auto& [event, prompt] : events) {
    list.push_back(event_json(*event, prompt, record.origin.arrived));
  }
  body["events"] = std::move(list);
  body["dropped_events"] = dropped;
  return to_text(body);
}

}  // namespace ridge::api
