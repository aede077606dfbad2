#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "platform/metering/ledger.h"

namespace ridge::server {

// What was used since this server started, by project and model, and whom limits refused. The
// ledger has it exactly, over all servers and starts; these are for graphs and alerts. Any thread.
class UsageMetrics {
 public:
  // Of as many projects, and all further ones together as "(other)": Prometheus keeps a series for
  // each. Models are those that are served.
  static constexpr std::size_t most_projects = 256;

  UsageMetrics();

  // Of a request that has ended; what is void does not count.
  void count(const std::string& project, const std::string& model,
             const platform::Settlement& settlement);
  void count_refusal(const std::string& project, platform::Refusal::Kind kind);
  // Of all projects, or of the one that is named.
  std::vector<prometheus::MetricFamily> collect(const std::optional<std::string>& project) const;

 private:
  using Counters = prometheus::Family<prometheus::Counter>;

  std::string label_of(const std::string& project);

  std::mutex mutex_;
  std::set<std::string> projects_;

  prometheus::Registry registry_;
  Counters &requests_, &prompt_tokens_, &cached_tokens_, &completion_tokens_, &refusals_;
};

}  // namespace ridge::server
