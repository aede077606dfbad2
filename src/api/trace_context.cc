#include "api/trace_context.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/random_id.h"

namespace ridge::api {
namespace {

constexpr std::size_t max_tracestate_bytes = 512;  // that must be passed on: W3C, 3.3.1.5

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_id(std::string_view text) {
  return is_hex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

// version "-" trace-id "-" parent-id "-" flags; later versions may go on behind a dash.
bool parse(std::string_view text, TraceContext& context) {
  constexpr std::size_t size = 2 + 1 + 32 + 1 + 16 + 1 + 2;
  if (text.size() < size || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const std::string_view version = text.substr(0, 2), trace_id = text.substr(3, 32),
                         parent_id = text.substr(36, 16), flags = text.substr(53, 2);
  if (!is_hex(version) || version == "ff" || !is_hex(flags)) return false;
  if (!is_id(trace_id) || !is_id(parent_id)) return false;
  if (text.size() > size && (version == "00" || text[size] != '-')) return false;
  context.trace_id = trace_id;
  context.parent_id = parent_id;
  const char last = flags[1];
  context.sampled = ((last >= 'a' ? last - 'a' + 10 : last - '0') & 1) != 0;
  return true;
}

}  // namespace

TraceContext trace_context(std::string_view traceparent, std::string_view tracestate) {
  TraceContext context;
  context.span_id = random_hex(8);
  if (!parse(traceparent, context)) {
    context.trace_id = random_hex(16);
  } else if (tracestate.size() <= max_tracestate_bytes && is_printable(tracestate)) {
    context.tracestate = tracestate;
  }
  return context;
}

std::string traceparent(const TraceContext& context) {
  return fmt::format("00-{}-{}-0{}", context.trace_id, context.span_id, context.sampled ? 1 : 0);
}

}  // namespace ridge::api
