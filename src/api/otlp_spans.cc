#include "api/otlp_spans.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/answer.h"
#include "api/json_text.h"
#include "api/random_id.h"

namespace ridge::api {
namespace {

using engine::TraceEvent;
using Kind = TraceEvent::Kind;
using Trace = engine::RequestTrace::Snapshot;

constexpr std::size_t max_message_bytes = 300;

// Values of the protocol's enumerations.
constexpr int span_kind_internal = 1;
constexpr int span_kind_server = 2;
constexpr int status_error = 2;

Json attribute(std::string_view key, Json value) {
  return {{"key", key}, {"value", std::move(value)}};
}
Json text(std::string_view value) { return {{"stringValue", value}}; }
// 64-bit numbers are strings in the JSON of protocol buffers.
Json integer(int64_t value) { return {{"intValue", std::to_string(value)}}; }
Json number(double value) { return {{"doubleValue", value}}; }

class Spans {
 public:
  explicit Spans(const RequestRecord& record) : record_(record), now_(record.snapshot()) {}

  void append_to(Json& spans) {
    spans.push_back(root());
    for (std::size_t prompt = 0; prompt < now_.traces.size(); ++prompt) {
      append_phases(now_.traces[prompt], prompt, spans);
    }
  }

 private:
  Clock::TimePoint end() const { return now_.ended.value_or(record_.origin.arrived); }

  std::string unix_ns(Clock::TimePoint at) const {
    const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(
        record_.origin.arrived_at.time_since_epoch() + (at - record_.origin.arrived));
    return std::to_string(since.count());
  }

  Json span(std::string name, int kind, Clock::TimePoint from, Clock::TimePoint to) const {
    return {{"traceId", record_.origin.context.trace_id},
            {"name", std::move(name)},
            {"kind", kind},
            {"startTimeUnixNano", unix_ns(from)},
            {"endTimeUnixNano", unix_ns(std::max(from, to))}};
  }

  Json root() const {
    const TraceContext& context = record_.origin.context;
    std::string name(record_.origin.operation);
    if (!now_.model.empty()) name += " " + now_.model;
    Json root = span(std::move(name), span_kind_server, record_.origin.arrived, end());
    root["spanId"] = context.span_id;
    if (!context.parent_id.empty()) root["parentSpanId"] = context.parent_id;
    if (!context.tracestate.empty()) root["traceState"] = context.tracestate;
    root["attributes"] = attributes();
    // A fault of the caller is none of the server's: HTTP conventions, "Status". A streamed answer
    // may fail after its 200.
    const bool fails_late = now_.status < 400 && !now_.error.empty() && now_.error != "cancelled";
    if (now_.status >= 500 || fails_late) root["status"] = {{"code", status_error}};
    return root;
  }

  Json attributes() const {
    Json list = {attribute("gen_ai.operation.name", text(record_.origin.operation)),
                 attribute("gen_ai.provider.name", text("ridgeline")),
                 attribute("http.request.method", text("POST")),
                 attribute("http.route", text(record_.origin.endpoint)),
                 attribute("http.response.status_code", integer(now_.status)),
                 attribute("ridge.request.id", text(record_.origin.id))};
    if (!now_.error.empty()) list.push_back(attribute("error.type", text(now_.error)));
    if (now_.model.empty()) return list;
    list.push_back(attribute("gen_ai.request.model", text(now_.model)));
    list.push_back(attribute("gen_ai.response.model", text(now_.model)));
    list.push_back(attribute("gen_ai.response.id", text(now_.answer_id)));
    list.push_back(attribute("gen_ai.usage.input_tokens", integer(now_.usage.prompt_tokens)));
    list.push_back(
        attribute("gen_ai.usage.cache_read.input_tokens", integer(now_.usage.cached_tokens)));
    if (!generates()) return list;
    add_generation(list);
    return list;
  }

  bool generates() const {
    return record_.origin.operation == "chat" || record_.origin.operation == "text_completion";
  }

  void add_generation(Json& list) const {
    const AskedParameters& asked = now_.asked;
    list.push_back(attribute("gen_ai.usage.output_tokens", integer(now_.usage.completion_tokens)));
    list.push_back(
        attribute("gen_ai.usage.reasoning.output_tokens", integer(now_.usage.reasoning_tokens)));
    list.push_back(attribute("gen_ai.request.stream", {{"boolValue", asked.streams}}));
    list.push_back(attribute("gen_ai.request.max_tokens", integer(asked.max_tokens)));
    list.push_back(attribute("gen_ai.request.temperature", number(asked.sampling.temperature)));
    list.push_back(attribute("gen_ai.request.top_p", number(asked.sampling.top_p)));
    if (asked.sampling.top_k > 0) {
      list.push_back(attribute("gen_ai.request.top_k", number(asked.sampling.top_k)));
    }
    if (asked.sampling.seed) {
      list.push_back(
          attribute("gen_ai.request.seed", integer(static_cast<int64_t>(*asked.sampling.seed))));
    }
    if (asked.choices > 1) {
      list.push_back(attribute("gen_ai.request.choice.count", integer(asked.choices)));
    }
    Json reasons = Json::array();
    int drafted = 0, accepted = 0;
    for (const Trace& trace : now_.traces) {
      drafted += trace.draft_tokens;
      accepted += trace.accepted_tokens;
      for (const TraceEvent& event : trace.events) {
        if (event.kind != Kind::finished || !engine::is_answer(event.reason)) continue;
        reasons.push_back(text(openai_finish_reason(event.reason)));
      }
    }
    if (!reasons.empty()) {
      list.push_back(attribute("gen_ai.response.finish_reasons",
                               {{"arrayValue", {{"values", std::move(reasons)}}}}));
    }
    list.push_back(attribute("ridge.draft_tokens", integer(drafted)));
    list.push_back(attribute("ridge.accepted_draft_tokens", integer(accepted)));
  }

  void append_phases(const Trace& trace, std::size_t prompt, Json& spans) const {
    if (trace.events.empty()) return;
    const Clock::TimePoint begin = trace.events.front().at;
    const TraceEvent* const admitted = trace.first(Kind::admitted);
    const TraceEvent* const first_token = trace.first(Kind::first_token);
    Clock::TimePoint last = begin;
    for (const TraceEvent& event : trace.events) last = std::max(last, event.at);
    const Clock::TimePoint queued_until = admitted != nullptr ? admitted->at : last;
    spans.push_back(phase("queue", trace, prompt, {begin, queued_until, admitted == nullptr}));
    if (admitted == nullptr) return;
    const Clock::TimePoint read_until = first_token != nullptr ? first_token->at : last;
    spans.push_back(
        phase("prefill", trace, prompt, {admitted->at, read_until, first_token == nullptr}));
    if (first_token == nullptr) return;
    spans.push_back(phase("decode", trace, prompt, {first_token->at, last, /*is_last=*/true}));
  }

  struct Time {
    Clock::TimePoint from, to;
    bool is_last;  // and so has the events of its end
    bool has(Clock::TimePoint at) const { return at >= from && (is_last ? at <= to : at < to); }
  };

  // The span of a phase has the events of its time.
  Json phase(std::string_view name, const Trace& trace, std::size_t prompt,
             const Time& time) const {
    Json span = this->span(std::string(name), span_kind_internal, time.from, time.to);
    span["spanId"] = random_hex(8);
    span["parentSpanId"] = record_.origin.context.span_id;
    span["attributes"] =
        Json::array({attribute("ridge.prompt", integer(static_cast<int64_t>(prompt)))});
    Json events = Json::array();
    for (const TraceEvent& event : trace.events) {
      if (time.has(event.at)) events.push_back(event_json(event));
    }
    span["events"] = std::move(events);
    return span;
  }

  Json event_json(const TraceEvent& event) const {
    Json list = Json::array({attribute("ridge.choice", integer(event.choice))});
    if (event.kind == Kind::waiting || event.kind == Kind::preempted) {
      list.push_back(attribute("ridge.waits_for", text(name(event.wait))));
    }
    if (event.kind == Kind::admitted || event.kind == Kind::resumed) {
      list.push_back(attribute("ridge.cached_tokens", integer(event.cached_tokens)));
      list.push_back(attribute("ridge.restored_blocks", integer(event.restored_blocks)));
    }
    if (event.kind == Kind::prefill) {
      list.push_back(attribute("ridge.tokens", integer(event.tokens)));
      list.push_back(attribute("ridge.step_ms", number(event.step_ms)));
    }
    return {{"name", name(event.kind)},
            {"timeUnixNano", unix_ns(event.at)},
            {"attributes", std::move(list)}};
  }

  const RequestRecord& record_;
  const RequestRecord::Snapshot now_;
};

}  // namespace

std::string otlp_body(const std::vector<std::shared_ptr<const RequestRecord>>& records) {
  Json spans = Json::array();
  for (const auto& record : records) Spans(*record).append_to(spans);
  const Json resource = {
      {"attributes", Json::array({attribute("service.name", text("ridge")),
                                  attribute("service.version", text(RIDGE_VERSION))})}};
  const Json scope = {{"name", "ridge"}, {"version", RIDGE_VERSION}};
  return to_text(
      {{"resourceSpans",
        Json::array({{{"resource", resource},
                      {"scopeSpans", Json::array({{{"scope", scope}, {"spans", spans}}})}}})}});
}

OtlpRejection otlp_rejection(std::string_view answer) {
  OtlpRejection rejection;
  const std::optional<Json> body = parse_json_object(answer);
  if (!body || !body->contains("partialSuccess")) return rejection;
  const Json& partial = (*body)["partialSuccess"];
  if (!partial.is_object()) return rejection;
  const Json spans = partial.value("rejectedSpans", Json());
  if (spans.is_number_integer()) {
    rejection.spans = spans.get<int64_t>();
  } else if (spans.is_string()) {
    const std::string& digits = spans.get_ref<const std::string&>();
    std::from_chars(digits.data(), digits.data() + digits.size(), rejection.spans);
  }
  rejection.spans = std::max<int64_t>(rejection.spans, 0);
  const Json message = partial.value("errorMessage", Json());
  if (message.is_string()) {
    rejection.message = message.get_ref<const std::string&>().substr(0, max_message_bytes);
    std::ranges::replace_if(
        rejection.message, [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, ' ');
  }
  return rejection;
}

}  // namespace ridge::api
