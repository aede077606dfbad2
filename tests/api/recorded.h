#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "api/request_record.h"

namespace ridge::api {

// When requests of tests arrive, and so many milliseconds later.
inline Clock::TimePoint at_ms(double ms) {
  return Clock::TimePoint(std::chrono::hours(1)) +
         std::chrono::duration_cast<Clock::Duration>(std::chrono::duration<double, std::milli>(ms));
}

inline std::shared_ptr<RequestRecord> arrived(const std::string& id, const std::string& group = "",
                                              const std::string& traceparent = "") {
  const std::chrono::milliseconds unix_time(1'700'000'000'250);
  return std::make_shared<RequestRecord>(
      RequestRecord::Origin{.id = id,
                            .group = group,
                            .endpoint = "/v1/chat/completions",
                            .operation = "chat",
                            .context = trace_context(traceparent, ""),
                            .arrived = at_ms(0),
                            .arrived_at = std::chrono::system_clock::time_point(unix_time)});
}

// One that waited for a place, was preempted once, and has ended.
inline std::shared_ptr<RequestRecord> answered(const std::string& id,
                                               const std::string& traceparent = "") {
  using engine::TraceEvent;
  using Kind = TraceEvent::Kind;
  const auto record = arrived(id, "", traceparent);
  AskedParameters asked;
  asked.max_tokens = 100;
  asked.sampling.temperature = 0.5f;
  asked.sampling.seed = 7;
  record->prepared("tiny", "chatcmpl-1", asked);
  const auto trace = record->add_trace();
  trace->add({.kind = Kind::queued, .at = at_ms(1)});
  trace->add({.kind = Kind::waiting, .at = at_ms(2), .wait = engine::Wait::place});
  trace->add({.kind = Kind::admitted, .at = at_ms(30), .cached_tokens = 32});
  trace->add({.kind = Kind::prefill, .at = at_ms(30), .first = 32, .tokens = 18, .step_ms = 12.5});
  trace->add({.kind = Kind::first_token, .at = at_ms(42.5)});
  trace->count_token(false);
  trace->add({.kind = Kind::preempted, .at = at_ms(50), .wait = engine::Wait::blocks, .tokens = 1});
  trace->add({.kind = Kind::resumed, .at = at_ms(60), .cached_tokens = 48, .restored_blocks = 2});
  trace->count_drafts(2);
  trace->count_token(true);
  trace->add({.kind = Kind::finished, .at = at_ms(70), .tokens = 2});
  engine::Usage usage;
  usage.prompt_tokens = 50;
  usage.cached_tokens = 32;
  usage.completion_tokens = 2;
  record->ended(200, "", usage, at_ms(71));
  return record;
}

}  // namespace ridge::api
