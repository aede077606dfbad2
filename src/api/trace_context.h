#pragma once

#include <string>
#include <string_view>

namespace ridge::api {

// Where a request stands in a trace that other programs take part in: W3C Trace Context,
// https://www.w3.org/TR/trace-context/. Ids are lower-case hexadecimal.
struct TraceContext {
  std::string trace_id;    // 32 digits
  std::string span_id;     // 16 digits; of our own span
  std::string parent_id;   // 16 digits; the caller's span, or ""
  std::string tracestate;  // as it came, for the span; "" where there is none
  bool sampled = true;     // whether the caller wants the span to be recorded
};

// `traceparent` and `tracestate` as the headers of a request have them, or "". One that is not
// well-formed begins a trace of its own, as the standard says.
TraceContext trace_context(std::string_view traceparent, std::string_view tracestate);

// The header for those whom the trace goes on to: version 00, with our span as the parent.
std::string traceparent(const TraceContext& context);

}  // namespace ridge::api
