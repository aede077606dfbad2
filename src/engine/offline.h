#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/step_runner.h"

// A model without requests: what it thinks of given tokens, and how fast it is. Both go through the
// same StepRunner as serving, so that what they show holds there.
namespace ridge::engine {

// Limits of a runner that scores up to `tokens` tokens with logits for each: chunks small enough
// for their logits to stay below 64 MB.
RunnerLimits scoring_limits(int tokens, int vocab_size);

// Calls on_position(i, logits [vocab]) for each token i in order; the logits are those of the token
// after it. The runner must have scoring_limits for so many tokens. adapter: as StepInputs::add.
void score(StepRunner& runner, std::span<const int32_t> tokens,
           const std::function<void(int position, std::span<const float> logits)>& on_position,
           int adapter = -1);

// What one timing does: every sequence of the batch gets depth_tokens that are not timed, then a
// prompt, then generates, all sequences in one step.
struct Workload {
  int batch = 1;
  int depth_tokens = 0;
  int prompt_tokens = 512;
  int generated_tokens = 64;
  int repetitions = 3;

  int prompt_end() const { return depth_tokens + prompt_tokens; }
  int context_tokens() const { return prompt_end() + generated_tokens; }
};

// Limits of a runner for the workload, with a budget of step_tokens (at least the batch) a step.
RunnerLimits workload_limits(const Workload& workload, int step_tokens);

// Tokens a second, each the median of the repetitions and the total over the batch.
struct Throughput {
  double prefill_tokens_per_second = 0;  // 0 without a prompt
  double decode_tokens_per_second = 0;   // 0 without generation
};

struct TimedWorkload {
  StepRunner& runner;  // of its own
  Workload workload;
};

// Of each workload. They have the same repetitions and generate as many tokens, with each of which they take turns:
// a machine that is slower for a while is slower for all of them. Tokens are random, from a fixed seed:
// the speed does not depend on them. One short round of each warms up.
std::vector<Throughput> measure_throughput(std::span<const TimedWorkload> timed, const Clock& clock);

// One step: so many sequences at the same depth, each with so many more tokens and logits for the
// last of them.
struct StepForm {
  int sequences = 1;
  int tokens = 1;  // of each sequence
  int depth_tokens = 0;

  int context_tokens() const { return depth_tokens + tokens; }
};

// Limits of a runner for that step alone.
RunnerLimits step_limits(const StepForm& form, DType kv_dtype);

// Runs it, of tokens and behind a context that nobody filled: for devices that only count.
void run_step(StepRunner& runner, const StepForm& form);

}  // namespace ridge::engine
