#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "loadgen/answer_event.h"
#include "loadgen/http_pool.h"
#include "loadgen/target.h"
#include "loadgen/workload.h"

namespace ridge::loadgen {

// What one client saw. Times in ms; those of a request count from when it was due, so that a load
// generator that falls behind does not flatter the server.
struct RequestRecord {
  enum class Outcome { ok, failed, left };

  int group = 0;
  Outcome outcome = Outcome::failed;
  std::string failure;  // its kind, such as "429 queue_full"
  double due_ms = 0;    // after the run's start
  std::optional<double> first_token_ms;
  double total_ms = 0;
  std::vector<float> gaps_ms;  // between one piece of text and the next
  Usage usage;
  int retries = 0;  // after 429

  // As the server states them, else one for each piece of text.
  int output_tokens() const;
};

struct RunPlan {
  std::vector<Group> groups;     // without rate and clients: arrivals as the trace has them
  uint64_t requests = 0;         // of all groups; 0: no limit
  double duration_s = 0;         // then no more are started; 0: no limit
  bool retries_refused = false;  // after 429, as soon as Retry-After allows
  std::chrono::milliseconds timeout{600'000};
  Workload::Purpose purpose = Workload::Purpose::measured;
};

struct RunProgress {
  double elapsed_s = 0;
  uint64_t started = 0;
  uint64_t ok = 0;
  uint64_t failed = 0;
  int running = 0;
  uint64_t texts = 0;  // pieces of text that came
};

struct RunResult {
  std::vector<RequestRecord> records;  // in the order of their ends
  double duration_s = 0;               // from the start to the last end
  bool interrupted = false;
};

// Sends the load and waits for all that it started. `on_progress` is called at least ten times a
// second; where it returns false, what still runs is closed and left out of the records. Throws io
// where libcurl fails as a whole; what befalls a request is in its record.
RunResult run_load(HttpPool& pool, const Target& target, const Workload& workload,
                   const RunPlan& plan, const std::function<bool(const RunProgress&)>& on_progress);

}  // namespace ridge::loadgen
