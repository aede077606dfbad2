#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/json_text.h"
#include "api/trace_context.h"
#include "base/clock.h"
#include "engine/request.h"
#include "engine/request_trace.h"

namespace ridge::api {

// What was asked for; of a request with several prompts, what they share.
struct AskedParameters {
  int prompts = 1;
  int choices = 1;  // of each prompt
  int max_tokens = 0;
  int64_t prompt_tokens = 0;  // of all prompts
  sampling::SamplingParams sampling;
  bool streams = false;
};

// What happened to one HTTP request that wanted an engine, without a word of its prompt or answer.
// Its connection fills it, others may look at any time.
class RequestRecord {
 public:
  // Prompts of one request beyond these are not traced.
  static constexpr std::size_t max_traces = 4;

  // Known from its first line on.
  struct Origin {
    std::string id;              // x-request-id
    std::string group;           // who may see it
    std::string project, key;    // their names, for administrators; "" where nobody is asked
    std::string_view endpoint;   // as route_paths() has it; lives for ever
    std::string_view operation;  // as gen_ai.operation.name has it, likewise
    TraceContext context;
    Clock::TimePoint arrived;
    std::chrono::system_clock::time_point arrived_at;
  };
  explicit RequestRecord(Origin origin) : origin(std::move(origin)) {}

  // The body has been read: a model and an answer belong to it.
  void prepared(std::string model, std::string answer_id, const AskedParameters& asked);
  // One more engine request works on it; null for those beyond max_traces.
  std::shared_ptr<engine::RequestTrace> add_trace();
  // `error`: the name of the ErrorCode that it ended with, or "".
  void ended(int status, std::string_view error, const engine::Usage& usage, Clock::TimePoint now);

  struct Snapshot {
    std::string model;  // "" before `prepared`, as answer_id
    std::string answer_id;
    AskedParameters asked;
    std::vector<engine::RequestTrace::Snapshot> traces;
    int status = 0;  // of the answer; 0 before the end
    std::string error;
    engine::Usage usage;  // at the end
    std::optional<Clock::TimePoint> ended;

    // Of any of its prompts; null where there was none.
    const engine::TraceEvent* first(engine::TraceEvent::Kind kind) const;
  };
  Snapshot snapshot() const;
  std::string model() const;  // "" before `prepared`
  bool has_ended() const;
  bool is_called(std::string_view id) const;

  const Origin origin;

 private:
  mutable std::mutex mutex_;
  Snapshot now_;  // but for the traces
  std::vector<std::shared_ptr<engine::RequestTrace>> traces_;
};

// The recent requests. Over the limit, the group that has most loses its oldest: nobody can push
// out what others look for. Any thread.
class RequestRecords {
 public:
  explicit RequestRecords(std::size_t most) : most_(most) {}

  void add(std::shared_ptr<RequestRecord> record);
  // Of what turned out to need no engine.
  void remove(const std::shared_ptr<RequestRecord>& record);
  // The latest of this group under the id of the request or of its answer; or nullptr.
  std::shared_ptr<const RequestRecord> find(const std::string& group, std::string_view id) const;
  // The latest first.
  std::vector<std::shared_ptr<const RequestRecord>> list(const std::string& group) const;
  // Of all groups, those that have not ended, the oldest first.
  std::vector<std::shared_ptr<const RequestRecord>> unfinished() const;

 private:
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::map<std::string, std::deque<std::shared_ptr<RequestRecord>>> groups_;  // oldest first
  std::size_t size_ = 0;
};

// {"object":"list","data":[…],"has_more"}: without events, the latest first. `query` may hold
// limit=1…100 (20) and state=preparing|waiting|running|finished. Throws invalid_argument.
std::string request_list_body(const std::vector<std::shared_ptr<const RequestRecord>>& records,
                              std::string_view query, Clock::TimePoint now);
// One with its events in the order of their times.
std::string request_body(const RequestRecord& record, Clock::TimePoint now);

// Those that an engine has, in the same order: {"data":[{"id","project","key","model","state":
// "waiting"|"running","reason","waited_ms","prompt_tokens","completion_tokens"}]}.
Json working_requests(const std::vector<std::shared_ptr<const RequestRecord>>& records,
                      Clock::TimePoint now);

}  // namespace ridge::api
