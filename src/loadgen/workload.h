#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loadgen/length_distribution.h"
#include "loadgen/prompt_text.h"
#include "loadgen/trace.h"

namespace ridge::loadgen {

// Who sends, and how densely. Either a rate, of arrivals that are a Poisson process, or so many
// clients that each send the next request once the last has ended.
struct Group {
  std::string name;
  std::string api_key;  // empty: none is sent
  double requests_per_s = 0;
  int clients = 0;
};

// "light,rate=2,key=SECRET" or "heavy,clients=8,key=env:VARIABLE". Throws invalid_argument for
// anything else, and for a variable that is not set. The key is `default_key` where none is given.
Group parse_group(std::string_view text, const std::string& default_key);

// What is asked. A trace, where there is one, says prompts and lengths instead of the
// distributions.
struct WorkloadOptions {
  uint64_t seed = 1;
  LengthDistribution prompt_tokens;  // beside the shared prefix
  LengthDistribution output_tokens;
  int prefix_tokens = 0;  // with which each prompt begins
  int prefixes = 1;       // different ones, each as likely
  double leaving_share = 0;
  std::vector<TraceEntry> trace;
};

// When a client closes the connection before the answer has ended.
struct Leaving {
  double after_ms = 0;   // after sending, whatever has come by then; or
  int after_events = 0;  // with text, where it is above 0
};

struct PlannedRequest {
  std::string prompt;
  int output_tokens = 0;
  std::optional<Leaving> leaving;
};

// The requests of a load. Pure: request n of a group is the same in every run of one seed, whatever
// the server does; and no two have the same words beside the shared prefix.
class Workload {
 public:
  Workload(WorkloadOptions options, PromptScale scale);

  enum class Purpose { measured, warm_up };
  // A trace repeats itself where `number` goes beyond its end.
  PlannedRequest request(int group, uint64_t number, Purpose purpose) const;

  const std::vector<TraceEntry>& trace() const { return options_.trace; }
  uint64_t seed() const { return options_.seed; }

 private:
  std::string prefix(int index) const;

  WorkloadOptions options_;
  PromptScale scale_;
};

// Arrivals at random, `per_s` of them each second on average.
class PoissonArrivals {
 public:
  PoissonArrivals(uint64_t seed, int group, double per_s);

  // After the start of the run.
  double next_ms() const { return next_ms_; }
  void advance() { next_ms_ += random_.exponential(mean_ms_); }

 private:
  Random random_;
  double mean_ms_;
  double next_ms_ = 0;
};

}  // namespace ridge::loadgen
