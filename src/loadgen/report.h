#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loadgen/load_run.h"
#include "loadgen/summary.h"

namespace ridge::loadgen {

// What an answer must keep to be a good one; 0 where nothing is asked.
struct Objective {
  double ttft_ms = 0;
  double inter_token_ms = 0;  // the mean of an answer's gaps

  bool is_set() const { return ttft_ms > 0 || inter_token_ms > 0; }
  bool is_met_by(const RequestRecord& record) const;
};

// Times are of the requests that were answered whole, but for ttft_ms and inter_token_ms, which
// are also of answers that the client left.
struct GroupReport {
  std::string name;
  uint64_t ok = 0;
  uint64_t failed = 0;
  uint64_t left = 0;
  std::map<std::string, uint64_t> failures;  // by kind
  uint64_t retries = 0;
  int64_t prompt_tokens = 0;  // as the server states them
  int64_t cached_tokens = 0;  // likewise; of the prompts
  int64_t output_tokens = 0;
  uint64_t good = 0;       // that met the objective
  Summary ttft_ms;         // to the first piece of text
  Summary inter_token_ms;  // each gap between pieces of text
  Summary per_token_ms;    // of each request: from its first text to its end, by token
  Summary total_ms;

  uint64_t requests() const { return ok + failed + left; }
};

struct Report {
  double duration_s = 0;
  bool interrupted = false;
  Objective objective;
  GroupReport all;
  std::vector<GroupReport> groups;  // where there are several

  double per_s(int64_t count) const { return duration_s > 0 ? count / duration_s : 0; }
};

Report make_report(const RunResult& result, const std::vector<Group>& groups,
                   const Objective& objective);

}  // namespace ridge::loadgen
