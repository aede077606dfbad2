#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/served_model.h"
#include "base/clock.h"

namespace ridge::server {

// Watches the engines' step loops from outside: a process that answers while its engine stands
// still is not alive. Not thread-safe.
class Health {
 public:
  Health(Clock::Duration stall_timeout, Clock::TimePoint now);

  // Looks at every engine; call it about once a second.
  void observe(std::span<const api::ServedModel> models, Clock::TimePoint now);
  // False while an engine has work and has made no step for longer than the stall timeout. Loading
  // a model may take as long as it takes.
  bool alive() const { return alive_; }
  // Seconds until the engine is likely to have room for a request of the group that it has refused
  // for want of room: 1 to 60. Each that is refused is told of an ending of its own, behind those
  // of its group that were told before, as groups take turns. The rate is that of the recent
  // endings; before the first, a guess that grows with the wait for it. Where so many groups were
  // told that no more are kept, those that come are told the longest time.
  int retry_after_s(const api::ServedModel& model, const std::string& group, Clock::TimePoint now);

  // {"status","uptime_s","connections","models":[{"name","running","waiting","blocks_total",…}]}
  std::string body(std::span<const api::ServedModel> models, Clock::TimePoint now, bool draining,
                   int connections) const;
  double uptime_s(Clock::TimePoint now) const;
  // {"status": …} alone.
  std::string status_body(bool draining) const;

 private:
  struct Watch {
    uint64_t steps = 0;
    uint64_t finished = 0;
    Clock::TimePoint progressed_at;
    std::optional<Clock::TimePoint> busy_since;  // where it has work
    bool has_finished = false;                   // some of that work
    double finished_per_s = 0;  // since then: an average that forgets within about ten seconds
    // Endings, to those that were refused, of at most most_promised groups.
    std::map<std::string, double> promised;
  };

  static constexpr std::size_t most_promised = 1024;

  double finished_per_s(const Watch& watch, int running, Clock::TimePoint now) const;

  std::string_view status(bool draining) const;
  void observe(const engine::EngineStats& stats, Watch& watch, double elapsed_s,
               Clock::TimePoint now);

  const Clock::Duration stall_timeout_;
  const Clock::TimePoint started_at_;
  Clock::TimePoint observed_at_;
  std::map<std::string, Watch> watches_;  // by the name of the model
  bool alive_ = true;
};

}  // namespace ridge::server
