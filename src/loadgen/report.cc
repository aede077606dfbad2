#include "loadgen/report.h"

#include <algorithm>
#include <numeric>

namespace ridge::loadgen {
namespace {

using Outcome = RequestRecord::Outcome;

// Collects what the summaries are made of.
class Tally {
 public:
  explicit Tally(std::string name) { report_.name = std::move(name); }

  void add(const RequestRecord& record, const Objective& objective) {
    count(record);
    report_.retries += static_cast<uint64_t>(record.retries);
    report_.output_tokens += record.output_tokens();
    report_.prompt_tokens += std::max(0, record.usage.prompt_tokens);
    report_.cached_tokens += std::max(0, record.usage.cached_tokens);
    if (record.outcome == Outcome::failed) return;
    if (record.first_token_ms) ttft_.push_back(*record.first_token_ms);
    gaps_.insert(gaps_.end(), record.gaps_ms.begin(), record.gaps_ms.end());
    if (record.outcome == Outcome::left) return;
    total_.push_back(record.total_ms);
    if (record.first_token_ms && record.output_tokens() > 1) {
      per_token_.push_back((record.total_ms - *record.first_token_ms) /
                           (record.output_tokens() - 1));
    }
    report_.good += objective.is_met_by(record);
  }

  GroupReport finish() {
    report_.ttft_ms = summarize(std::move(ttft_));
    report_.inter_token_ms = summarize(std::move(gaps_));
    report_.per_token_ms = summarize(std::move(per_token_));
    report_.total_ms = summarize(std::move(total_));
    return std::move(report_);
  }

 private:
  void count(const RequestRecord& record) {
    report_.ok += record.outcome == Outcome::ok;
    report_.left += record.outcome == Outcome::left;
    report_.failed += record.outcome == Outcome::failed;
    if (record.outcome == Outcome::failed) ++report_.failures[record.failure];
  }

  GroupReport report_;
  std::vector<double> ttft_, gaps_, per_token_, total_;
};

}  // namespace

bool Objective::is_met_by(const RequestRecord& record) const {
  if (record.outcome != Outcome::ok) return false;
  if (ttft_ms > 0 && (!record.first_token_ms || *record.first_token_ms > ttft_ms)) return false;
  if (inter_token_ms <= 0 || record.gaps_ms.empty()) return true;
  const double sum = std::accumulate(record.gaps_ms.begin(), record.gaps_ms.end(), 0.0);
  return sum / static_cast<double>(record.gaps_ms.size()) <= inter_token_ms;
}

Report make_report(const RunResult& result, const std::vector<Group>& groups,
                   const Objective& objective) {
  Tally all("all");
  std::vector<Tally> tallies;
  for (const Group& group : groups) tallies.emplace_back(group.name);
  for (const RequestRecord& record : result.records) {
    all.add(record, objective);
    tallies.at(static_cast<size_t>(record.group)).add(record, objective);
  }
  Report report{.duration_s = result.duration_s,
                .interrupted = result.interrupted,
                .objective = objective,
                .all = all.finish()};
  if (groups.size() > 1) {
    for (Tally& tally : tallies) report.groups.push_back(tally.finish());
  }
  return report;
}

}  // namespace ridge::loadgen
