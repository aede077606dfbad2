#include "engine/offline.h"

#include <algorithm>
#include <deque>
#include <random>

#include "base/error.h"
#include "kvcache/block_pool.h"

namespace ridge::engine {

namespace {

constexpr int block_tokens = 16;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The sequences of one round of a workload.
class Round {
 public:
  Round(StepRunner& runner, const Workload& workload)
      : runner_(runner),
        inputs_(blocks_per_sequence(runner.limits())),
        pool_(runner.limits().blocks) {
    std::mt19937 random(1);
    for (int i = 0; i < workload.batch; ++i) {
      tables_.emplace_back(pool_, runner.limits().block_tokens);
      RIDGE_ASSERT(tables_.back().reserve(workload.context_tokens()));
      std::vector<int32_t>& tokens = tokens_.emplace_back();
      for (int t = 0; t < workload.context_tokens(); ++t) {
        tokens.push_back(
            static_cast<int32_t>(random() % static_cast<uint32_t>(runner.vocab_size())));
      }
    }
  }

  // All sequences from `first` to `last`, in steps as full as the limit allows, as the scheduler
  // packs prompts; the last row of each gives logits.
  void prefill(int first, int last) {
    inputs_.clear();
    for (size_t i = 0; i < tables_.size(); ++i) {
      for (int position = first; position < last;) {
        const int room = runner_.limits().tokens - inputs_.tokens();
        const int count = std::min(room, last - position);
        add(i, position, count, position + count == last ? 1 : 0);
        position += count;
        if (inputs_.tokens() == runner_.limits().tokens) flush();
      }
    }
    if (inputs_.tokens() > 0) flush();
  }

  void decode(int position) {
    inputs_.clear();
    for (size_t i = 0; i < tables_.size(); ++i) add(i, position, 1, /*logits=*/1);
    flush();
  }

 private:
  void add(size_t sequence, int position, int count, int logits) {
    const auto tokens = std::span(tokens_[sequence])
                            .subspan(static_cast<size_t>(position), static_cast<size_t>(count));
    inputs_.add(tokens, position, tables_[sequence], logits);
  }
  void flush() {
    runner_.run(inputs_);
    inputs_.clear();
  }

  StepRunner& runner_;
  StepInputs inputs_;
  kvcache::BlockPool pool_;
  std::vector<kvcache::BlockTable> tables_;
  std::vector<std::vector<int32_t>> tokens_;
};

double per_second(int tokens, Clock::Duration time) { return tokens > 0 ? tokens / seconds(time) : 0; }

// has_depth: an earlier round of the same workloads has left the contexts before the prompts in the
// caches, where this round's blocks, being the same, find them.
std::vector<Throughput> run_once(std::span<const TimedWorkload> timed, const Clock& clock,
                                 bool has_depth) {
  std::deque<Round> rounds;  // which stay where they are
  std::vector<Throughput> results;
  for (const auto& [runner, workload] : timed) {
    Round& round = rounds.emplace_back(runner, workload);
    if (workload.depth_tokens > 0 && !has_depth) round.prefill(0, workload.depth_tokens);
    const auto start = clock.now();
    if (workload.prompt_tokens > 0) round.prefill(workload.depth_tokens, workload.prompt_end());
    results.push_back({.prefill_tokens_per_second =
                           per_second(workload.batch * workload.prompt_tokens, clock.now() - start)});
  }
  std::vector<Clock::Duration> decoding(timed.size());
  for (int i = 0; i < timed[0].workload.generated_tokens; ++i) {
    for (size_t t = 0; t < timed.size(); ++t) {
      const auto start = clock.now();
      rounds[t].decode(timed[t].workload.prompt_end() + i);
      decoding[t] += clock.now() - start;
    }
  }
  for (size_t t = 0; t < timed.size(); ++t) {
    const Workload& workload = timed[t].workload;
    results[t].decode_tokens_per_second =
        per_second(workload.batch * workload.generated_tokens, decoding[t]);
  }
  return results;
}

// Of workloads that are short versions of these.
void warm_up(std::span<const TimedWorkload> timed, const Clock& clock) {
  for (TimedWorkload warm : timed) {
    warm.workload.depth_tokens = 0;
    warm.workload.prompt_tokens = std::min(warm.workload.prompt_tokens, 32);
    warm.workload.generated_tokens = std::min(warm.workload.generated_tokens, 2);
    run_once({&warm, 1}, clock, /*has_depth=*/false);
  }
}

}  // namespace

RunnerLimits scoring_limits(int tokens, int vocab_size) {
  constexpr int most_logits = 16 << 20;
  const int rows = std::clamp(most_logits / vocab_size, 1, std::min(tokens, 512));
  return {.tokens = rows,
          .sequences = 1,
          .outputs = rows,
          .context_tokens = tokens,
          .block_tokens = block_tokens,
          .blocks = kvcache::BlockTable::blocks_for(tokens, block_tokens)};
}

void score(StepRunner& runner, std::span<const int32_t> tokens,
           const std::function<void(int, std::span<const float>)>& on_position, int adapter) {
  const RunnerLimits& limits = runner.limits();
  kvcache::BlockPool pool(limits.blocks);
  kvcache::BlockTable table(pool, limits.block_tokens);
  RIDGE_ASSERT(table.reserve(static_cast<int>(tokens.size())));
  StepInputs inputs(blocks_per_sequence(limits));
  const size_t most = static_cast<size_t>(std::min(limits.tokens, limits.outputs));
  const auto width = static_cast<size_t>(runner.vocab_size());
  for (size_t first = 0; first < tokens.size(); first += most) {
    const auto chunk = tokens.subspan(first, std::min(most, tokens.size() - first));
    inputs.clear();
    inputs.add(chunk, static_cast<int>(first), table, /*logits=*/static_cast<int>(chunk.size()),
               adapter);
    const std::span<const float> logits = runner.run(inputs);
    for (size_t row = 0; row < chunk.size(); ++row) {
      on_position(static_cast<int>(first + row), logits.subspan(row * width, width));
    }
  }
}

RunnerLimits workload_limits(const Workload& workload, int step_tokens) {
  const int tokens = std::max(step_tokens, workload.batch);
  const int sequence_blocks =
      kvcache::BlockTable::blocks_for(workload.context_tokens(), block_tokens);
  return {.tokens = tokens,
          .sequences = workload.batch,
          .outputs = workload.batch,
          .context_tokens = workload.context_tokens(),
          .block_tokens = block_tokens,
          .blocks = sequence_blocks * workload.batch};
}

std::vector<Throughput> measure_throughput(std::span<const TimedWorkload> timed, const Clock& clock) {
  RIDGE_ASSERT(!timed.empty());
  for (const TimedWorkload& t : timed) {
    RIDGE_ASSERT(t.workload.repetitions == timed[0].workload.repetitions);
    RIDGE_ASSERT(t.workload.generated_tokens == timed[0].workload.generated_tokens);
  }
  warm_up(timed, clock);
  std::vector<std::vector<double>> prefill(timed.size()), decode(timed.size());
  for (int i = 0; i < timed[0].workload.repetitions; ++i) {
    const std::vector<Throughput> once = run_once(timed, clock, /*has_depth=*/i > 0);
    for (size_t t = 0; t < timed.size(); ++t) {
      prefill[t].push_back(once[t].prefill_tokens_per_second);
      decode[t].push_back(once[t].decode_tokens_per_second);
    }
  }
  std::vector<Throughput> results;
  for (size_t t = 0; t < timed.size(); ++t) results.push_back({median(prefill[t]), median(decode[t])});
  return results;
}

RunnerLimits step_limits(const StepForm& form, DType kv_dtype) {
  const int sequence_blocks = kvcache::BlockTable::blocks_for(form.context_tokens(), block_tokens);
  return {.tokens = form.sequences * form.tokens,
          .sequences = form.sequences,
          .outputs = form.sequences,
          .context_tokens = form.context_tokens(),
          .block_tokens = block_tokens,
          .blocks = form.sequences * sequence_blocks,
          .kv_dtype = kv_dtype};
}

void run_step(StepRunner& runner, const StepForm& form) {
  StepInputs inputs(blocks_per_sequence(runner.limits()));
  kvcache::BlockPool pool(runner.limits().blocks);
  std::vector<kvcache::BlockTable> tables;
  const std::vector<int32_t> tokens(static_cast<size_t>(form.tokens));
  for (int i = 0; i < form.sequences; ++i) {
    tables.emplace_back(pool, runner.limits().block_tokens);
    RIDGE_ASSERT(tables.back().reserve(form.context_tokens()));
    inputs.add(tokens, form.depth_tokens, tables.back(), /*logits=*/1);
  }
  runner.run(inputs);
}

}  // namespace ridge::engine
