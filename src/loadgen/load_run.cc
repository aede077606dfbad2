#include "loadgen/load_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <queue>

#include "base/error.h"
#include "loadgen/event_stream.h"

namespace ridge::loadgen {
namespace {

using TimePoint = Clock::TimePoint;

constexpr Clock::Duration longest_wait = std::chrono::milliseconds(100);
constexpr double default_retry_s = 1;
constexpr size_t largest_refusal_bytes = 64u << 10;

double ms_between(TimePoint from, TimePoint to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

Clock::Duration from_ms(double ms) {
  return std::chrono::duration_cast<Clock::Duration>(std::chrono::duration<double, std::milli>(ms));
}

// One request and its client, through all its tries.
class Client final : public HttpListener {
 public:
  Client(PlannedRequest planned, int group, TimePoint due) : planned(std::move(planned)), due(due) {
    record.group = group;
  }

  void on_head(int status, std::optional<double> retry_after_s) override {
    status_ = status;
    retry_after_s_ = retry_after_s;
  }

  bool on_bytes(std::string_view bytes, TimePoint now) override {
    if (status_ != 200) {
      refusal_ += bytes.substr(0, largest_refusal_bytes - refusal_.size());
      return true;
    }
    try {
      for (const std::string& event : stream_.feed(bytes)) take(read_answer_event(event), now);
    } catch (const Error& error) {
      end(RequestRecord::Outcome::failed, fmt::format("broken stream: {}", error.message()), now);
      return false;
    }
    const bool leaves = planned.leaving && planned.leaving->after_events > 0 &&
                        texts() >= planned.leaving->after_events;
    if (leaves) end(RequestRecord::Outcome::left, "", now);
    return !leaves;
  }

  void on_end(std::string_view failure, TimePoint now) override {
    if (!failure.empty()) return end(RequestRecord::Outcome::failed, failure, now);
    if (status_ != 200) {
      was_refused = status_ == 429;
      const std::string name = error_name(refusal_);
      return end(RequestRecord::Outcome::failed,
                 name.empty() ? fmt::format("{}", status_) : fmt::format("{} {}", status_, name),
                 now);
    }
    if (!stream_error_.empty()) {
      return end(RequestRecord::Outcome::failed, "in the stream: " + stream_error_, now);
    }
    if (!finished_) return end(RequestRecord::Outcome::failed, "ended before it was finished", now);
    end(RequestRecord::Outcome::ok, "", now);
  }

  void end(RequestRecord::Outcome outcome, std::string_view failure, TimePoint now) {
    record.outcome = outcome;
    record.failure = failure;
    record.total_ms = ms_between(due, now);
    ended = true;
    id = 0;
  }

  // Forgets a refusal, before the next try.
  void start_again() {
    refusal_.clear();
    was_refused = ended = false;
    ++record.retries;
  }

  int texts() const {
    return record.first_token_ms ? 1 + static_cast<int>(record.gaps_ms.size()) : 0;
  }
  double retry_after_s() const { return retry_after_s_.value_or(default_retry_s); }

  const PlannedRequest planned;
  const TimePoint due;
  RequestRecord record;
  HttpPool::Id id = 0;  // 0: waits for the next try, or has ended
  bool ended = false;
  bool was_refused = false;  // with 429

 private:
  void take(const AnswerEvent& event, TimePoint now) {
    if (event.usage) record.usage = *event.usage;
    if (!event.error.empty() && stream_error_.empty()) stream_error_ = event.error;
    if (event.finished || event.is_last) finished_ = true;
    if (!event.has_text) return;
    if (record.first_token_ms) {
      record.gaps_ms.push_back(static_cast<float>(ms_between(last_text_at_, now)));
    } else {
      record.first_token_ms = ms_between(due, now);
    }
    last_text_at_ = now;
  }

  int status_ = 0;
  std::optional<double> retry_after_s_;
  std::string refusal_;
  EventStream stream_;
  std::string stream_error_;
  bool finished_ = false;
  TimePoint last_text_at_;
};

class LoadRun {
 public:
  LoadRun(HttpPool& pool, const Target& target, const Workload& workload, const RunPlan& plan)
      : pool_(pool), target_(target), workload_(workload), plan_(plan), start_(clock_.now()) {
    for (size_t i = 0; i < plan.groups.size(); ++i) {
      Sender& sender = senders_.emplace_back();
      const double rate = plan.groups[i].requests_per_s;
      if (rate > 0) sender.arrivals.emplace(workload.seed(), static_cast<int>(i), rate);
    }
  }

  RunResult run(const std::function<bool(const RunProgress&)>& on_progress) {
    while (true) {
      start_due();
      act_on_timers();
      if (clients_.empty() && !next_arrival()) break;
      pool_.poll(std::clamp(next_event() - clock_.now(), Clock::Duration::zero(), longest_wait));
      settle();
      progress_.elapsed_s = ms_between(start_, clock_.now()) / 1000;
      progress_.running = static_cast<int>(clients_.size());
      if (!on_progress(progress_)) {
        result_.interrupted = true;
        break;
      }
    }
    for (const auto& client : clients_) {
      if (client->id != 0) pool_.close(client->id);
    }
    return std::move(result_);
  }

 private:
  struct Sender {
    std::optional<PoissonArrivals> arrivals;
    uint64_t next_number = 0;
    int running = 0;
  };
  // When a client leaves or tries again.
  struct Timer {
    TimePoint at;
    std::weak_ptr<Client> client;
    bool operator<(const Timer& other) const { return at > other.at; }  // the earliest on top
  };

  bool may_start(TimePoint at) const {
    if (plan_.requests > 0 && progress_.started >= plan_.requests) return false;
    return plan_.duration_s == 0 || ms_between(start_, at) < plan_.duration_s * 1000;
  }

  // When the group's next request is due; nothing where it has none, or must wait for an answer.
  std::optional<TimePoint> due(size_t index) const {
    const Sender& sender = senders_[index];
    const Group& group = plan_.groups[index];
    TimePoint at = clock_.now();
    if (group.clients > 0) {
      if (sender.running >= group.clients) return std::nullopt;
    } else if (sender.arrivals) {
      at = start_ + from_ms(sender.arrivals->next_ms());
    } else {
      if (sender.next_number >= workload_.trace().size()) return std::nullopt;
      at = start_ + from_ms(workload_.trace()[sender.next_number].arrival_ms);
    }
    return may_start(at) ? std::optional(at) : std::nullopt;
  }

  std::optional<TimePoint> next_arrival() const {
    std::optional<TimePoint> earliest;
    for (size_t i = 0; i < senders_.size(); ++i) {
      const std::optional<TimePoint> at = due(i);
      if (at && (!earliest || *at < *earliest)) earliest = at;
    }
    return earliest;
  }

  TimePoint next_event() const {
    TimePoint at = next_arrival().value_or(TimePoint::max());
    if (!timers_.empty()) at = std::min(at, timers_.top().at);
    return std::min(at, clock_.now() + longest_wait);
  }

  // In turn, so that groups start level where the number of requests is limited.
  void start_due() {
    for (bool any = true; any;) {
      any = false;
      for (size_t i = 0; i < senders_.size(); ++i) {
        const std::optional<TimePoint> at = due(i);
        if (!at || *at > clock_.now()) continue;
        start(static_cast<int>(i), *at);
        any = true;
      }
    }
  }

  void start(int group, TimePoint at) {
    Sender& sender = senders_[static_cast<size_t>(group)];
    auto client = std::make_shared<Client>(
        workload_.request(group, sender.next_number, plan_.purpose), group, at);
    client->record.due_ms = ms_between(start_, at);
    ++sender.next_number;
    ++sender.running;
    ++progress_.started;
    if (sender.arrivals) sender.arrivals->advance();
    send(*client);
    const auto& leaving = client->planned.leaving;
    if (leaving && leaving->after_events == 0) {
      timers_.push({clock_.now() + from_ms(leaving->after_ms), client});
    }
    clients_.push_back(std::move(client));
  }

  void send(Client& client) {
    const Group& group = plan_.groups[static_cast<size_t>(client.record.group)];
    client.id = pool_.start({.url = target_.url(),
                             .body = request_body(target_, client.planned.prompt,
                                                  client.planned.output_tokens, Delivery::stream),
                             .api_key = group.api_key,
                             .timeout = plan_.timeout},
                            client);
  }

  void act_on_timers() {
    while (!timers_.empty() && timers_.top().at <= clock_.now()) {
      const std::shared_ptr<Client> client = timers_.top().client.lock();
      timers_.pop();
      if (client == nullptr || client->ended) continue;
      if (client->id == 0) {
        send(*client);
      } else {
        pool_.close(client->id);
        client->end(RequestRecord::Outcome::left, "", clock_.now());
      }
    }
    settle();
  }

  void settle() {
    for (size_t i = 0; i < clients_.size();) {
      Client& client = *clients_[i];
      if (!client.ended) {
        ++i;
        continue;
      }
      if (client.was_refused && plan_.retries_refused && !client.planned.leaving) {
        client.start_again();
        timers_.push({clock_.now() + from_ms(client.retry_after_s() * 1000), clients_[i]});
        ++i;
        continue;
      }
      keep(client);
      clients_[i] = std::move(clients_.back());
      clients_.pop_back();
    }
  }

  void keep(Client& client) {
    --senders_[static_cast<size_t>(client.record.group)].running;
    progress_.ok += client.record.outcome == RequestRecord::Outcome::ok;
    progress_.failed += client.record.outcome == RequestRecord::Outcome::failed;
    progress_.texts += static_cast<uint64_t>(client.texts());
    const double end_s = (client.record.due_ms + client.record.total_ms) / 1000;
    result_.duration_s = std::max(result_.duration_s, end_s);
    result_.records.push_back(std::move(client.record));
  }

  HttpPool& pool_;
  const Target& target_;
  const Workload& workload_;
  const RunPlan& plan_;
  const SteadyClock clock_;
  const TimePoint start_;
  std::vector<Sender> senders_;  // one for each group
  std::vector<std::shared_ptr<Client>> clients_;
  std::priority_queue<Timer> timers_;
  RunProgress progress_;
  RunResult result_;
};

}  // namespace

int RequestRecord::output_tokens() const {
  if (usage.output_tokens >= 0) return usage.output_tokens;
  return first_token_ms ? 1 + static_cast<int>(gaps_ms.size()) : 0;
}

RunResult run_load(HttpPool& pool, const Target& target, const Workload& workload,
                   const RunPlan& plan,
                   const std::function<bool(const RunProgress&)>& on_progress) {
  RIDGE_ASSERT(!plan.groups.empty());
  return LoadRun(pool, target, workload, plan).run(on_progress);
}

}  // namespace ridge::loadgen
