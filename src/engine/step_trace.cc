// What a step loop tells those who follow a request.
#include <algorithm>

#include "engine/active_request.h"
#include "engine/step_loop.h"

namespace ridge::engine {

// After a step was planned: who got a place, who lost it, and why the others wait.
void StepLoop::trace_places() {
  const Clock::TimePoint now = clock_.now();
  for (const auto& [id, choice] : choices_) {
    if (choice->owner.request.trace) trace_place(*choice, now);
  }
}

void StepLoop::trace_place(Choice& choice, Clock::TimePoint now) {
  const Sequence& sequence = choice.sequence;
  RequestTrace& trace = *choice.owner.request.trace;
  TraceEvent event = {.at = now, .choice = choice.number};
  const bool has_place = sequence.state == Sequence::State::running;
  if (has_place && !choice.had_place) {
    event.kind = std::exchange(choice.was_admitted, true) ? TraceEvent::Kind::resumed
                                                          : TraceEvent::Kind::admitted;
    event.cached_tokens = sequence.computed_tokens;
    event.restored_blocks = sequence.restored_blocks;
    trace.add(event);
    choice.told_wait.reset();
  } else if (sequence.state == Sequence::State::waiting) {
    event.kind = choice.had_place ? TraceEvent::Kind::preempted : TraceEvent::Kind::waiting;
    event.wait = scheduler_.why_waiting();
    event.tokens = choice.answer.tokens();
    if (choice.told_wait != event.wait) trace.add(event);
    choice.told_wait = event.wait;
  }
  choice.had_place = has_place;
}

// Before the scheduler counts the step's tokens.
void StepLoop::trace_prefills(const Batch& batch, Clock::TimePoint start) {
  for (const Chunk& chunk : batch) {
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end()) continue;  // its request failed
    const Choice& choice = *found->second;
    const bool is_prefill = chunk.count - chunk.drafts > 1 || choice.answer.tokens() == 0;
    if (!is_prefill || !choice.owner.request.trace) continue;
    choice.owner.request.trace->add({.kind = TraceEvent::Kind::prefill,
                                     .at = start,
                                     .choice = choice.number,
                                     .first = chunk.first,
                                     .tokens = chunk.count - chunk.drafts,
                                     .step_ms = milliseconds(clock_.now() - start)});
  }
}

// Before the token is counted.
void StepLoop::trace_token(Choice& choice, bool is_right) {
  RequestTrace* const trace = choice.owner.request.trace.get();
  if (trace == nullptr) return;
  if (choice.answer.tokens() == 0) {
    trace->add(
        {.kind = TraceEvent::Kind::first_token, .at = clock_.now(), .choice = choice.number});
  }
  trace->count_token(is_right);
}

void StepLoop::trace_end(Choice& choice) {
  if (!choice.owner.request.trace) return;
  choice.owner.request.trace->add({.kind = TraceEvent::Kind::finished,
                                   .at = clock_.now(),
                                   .choice = choice.number,
                                   .reason = *choice.reason,
                                   .tokens = choice.answer.tokens()});
}

}  // namespace ridge::engine
