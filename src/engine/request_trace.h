#pragma once

#include <bitset>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "engine/request.h"
#include "engine/request_check.h"
#include "engine/wait.h"

namespace ridge::engine {

// One thing that happened to a request; which fields count depends on the kind.
struct TraceEvent {
  enum class Kind : uint8_t {
    queued,       // taken by the engine
    waiting,      // wait
    admitted,     // cached_tokens, restored_blocks: got a place for the first time
    prefill,      // first, tokens, steps, step_ms
    first_token,  // of its choice
    preempted,    // wait, tokens generated so far: lost its place and its blocks
    resumed,      // as admitted: got a place again
    finished,     // reason, tokens generated
  };

  Kind kind = Kind::queued;
  Clock::TimePoint at;
  int choice = 0;
  Wait wait = Wait::turn;
  FinishReason reason = FinishReason::stop;
  int first = 0;            // position of the first token that was computed
  int tokens = 0;           // computed; or generated
  int steps = 1;            // one after the other that this event stands for
  double step_ms = 0;       // what these took, others' work among it
  int cached_tokens = 0;    // of the sequence, that need not be computed
  int restored_blocks = 0;  // of these, that came back from where they were spilled to
};
std::string_view name(TraceEvent::Kind kind);

// What happened to one request, for those who ask why it was slow. The engine fills it, anyone may
// look at any time. It has no text in it, and a bounded size: chunks of a long prompt grow
// together, and what else is too much is only counted.
class RequestTrace {
 public:
  static constexpr size_t max_events = 64;          // but for ends
  static constexpr size_t max_prefill_events = 16;  // of one choice

  struct Snapshot {
    std::vector<TraceEvent> events;  // in the order of their times
    int dropped_events = 0;
    int generated_tokens = 0;
    int draft_tokens = 0;     // guesses that were checked
    int accepted_tokens = 0;  // and were right
    // At the moment, also where events were dropped.
    int running_choices = 0;  // that have a place
    int ended_choices = 0;
    std::optional<Wait> waits_for;  // what a choice without a place was last told

    const TraceEvent* first(TraceEvent::Kind kind) const;  // null where there was none
  };

  // Never throws: what finds no memory is dropped.
  void add(const TraceEvent& event);
  // A step checks so many guesses of one choice.
  void count_drafts(int drafts);
  // One more token of any choice; is_right: as it was guessed.
  void count_token(bool is_right);

  Snapshot snapshot() const;

 private:
  bool grow_prefill(const TraceEvent& event);
  void follow_places(const TraceEvent& event);

  mutable std::mutex mutex_;
  Snapshot now_;
  std::bitset<max_choices> has_place_;
};

}  // namespace ridge::engine
