#include "engine/request_trace.h"

#include <algorithm>
#include <new>
#include <ranges>

#include "base/error.h"

namespace ridge::engine {

std::string_view name(Wait wait) {
  switch (wait) {
    case Wait::model:
      return "model";
    case Wait::place:
      return "place";
    case Wait::blocks:
      return "blocks";
    case Wait::turn:
      break;
  }
  return "turn";
}

std::string_view name(TraceEvent::Kind kind) {
  switch (kind) {
    case TraceEvent::Kind::queued:
      return "queued";
    case TraceEvent::Kind::waiting:
      return "waiting";
    case TraceEvent::Kind::admitted:
      return "admitted";
    case TraceEvent::Kind::prefill:
      return "prefill";
    case TraceEvent::Kind::first_token:
      return "first_token";
    case TraceEvent::Kind::preempted:
      return "preempted";
    case TraceEvent::Kind::resumed:
      return "resumed";
    case TraceEvent::Kind::finished:
      break;
  }
  return "finished";
}

void RequestTrace::add(const TraceEvent& event) {
  std::lock_guard lock(mutex_);
  follow_places(event);
  if (event.kind == TraceEvent::Kind::prefill && grow_prefill(event)) return;
  const bool is_wanted =
      event.kind == TraceEvent::Kind::finished || now_.events.size() < max_events;
  try {
    if (is_wanted) now_.events.push_back(event);
  } catch (const std::bad_alloc&) {
    ++now_.dropped_events;
  }
  now_.dropped_events += !is_wanted;
}

// Whether the event became part of the choice's last one.
bool RequestTrace::grow_prefill(const TraceEvent& event) {
  const auto is_same = [&](const TraceEvent& each) {
    return each.kind == TraceEvent::Kind::prefill && each.choice == event.choice;
  };
  if (std::ranges::count_if(now_.events, is_same) < static_cast<ptrdiff_t>(max_prefill_events)) {
    return false;
  }
  auto reversed = std::views::reverse(now_.events);
  TraceEvent& last = *std::ranges::find_if(reversed, is_same);
  if (last.first + last.tokens != event.first) return false;
  last.tokens += event.tokens;
  last.steps += event.steps;
  last.step_ms += event.step_ms;
  return true;
}

void RequestTrace::follow_places(const TraceEvent& event) {
  const auto choice = static_cast<size_t>(event.choice);
  RIDGE_ASSERT(choice < has_place_.size());
  switch (event.kind) {
    case TraceEvent::Kind::admitted:
    case TraceEvent::Kind::resumed:
      has_place_.set(choice);
      break;
    case TraceEvent::Kind::preempted:
      has_place_.reset(choice);
      now_.waits_for = event.wait;
      break;
    case TraceEvent::Kind::waiting:
      now_.waits_for = event.wait;
      break;
    case TraceEvent::Kind::finished:
      has_place_.reset(choice);
      ++now_.ended_choices;
      break;
    default:
      return;
  }
  now_.running_choices = static_cast<int>(has_place_.count());
}

void RequestTrace::count_drafts(int drafts) {
  std::lock_guard lock(mutex_);
  now_.draft_tokens += drafts;
}

void RequestTrace::count_token(bool is_right) {
  std::lock_guard lock(mutex_);
  ++now_.generated_tokens;
  now_.accepted_tokens += is_right;
}

const TraceEvent* RequestTrace::Snapshot::first(TraceEvent::Kind kind) const {
  const auto found = std::ranges::find(events, kind, &TraceEvent::kind);
  return found == events.end() ? nullptr : &*found;
}

RequestTrace::Snapshot RequestTrace::snapshot() const {
  std::lock_guard lock(mutex_);
  return now_;
}

}  // namespace ridge::engine
