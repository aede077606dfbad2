#include "engine/offline.h"

#include <algorithm>
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

// has_depth: an earlier round of the same workload has left the context before the prompt in the
// cache, where this round's blocks, being the same, find it.
Throughput run_once(StepRunner& runner, const Workload& workload, const Clock& clock,
                    bool has_depth) {
  Round round(runner, workload);
  const int prompt_end = workload.depth_tokens + workload.prompt_tokens;
  if (workload.depth_tokens > 0 && !has_depth) round.prefill(0, workload.depth_tokens);
  Throughput result;
  const auto start = clock.now();
  if (workload.prompt_tokens > 0) {
    round.prefill(workload.depth_tokens, prompt_end);
    result.prefill_tokens_per_second =
        workload.batch * workload.prompt_tokens / seconds(clock.now() - start);
  }
  if (workload.generated_tokens > 0) {
    const auto decode_start = clock.now();
    for (int i = 0; i < workload.generated_tokens; ++i) round.decode(prompt_end + i);
    result.decode_tokens_per_second =
        workload.batch * workload.generated_tokens / seconds(clock.now() - decode_start);
  }
  return result;
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

Throughput measure_throughput(StepRunner& runner, const Workload& workload, const Clock& clock) {
  Workload warm_up = workload;
  warm_up.depth_tokens = 0;
  warm_up.prompt_tokens = std::min(workload.prompt_tokens, 32);
  warm_up.generated_tokens = std::min(workload.generated_tokens, 2);
  run_once(runner, warm_up, clock, /*has_depth=*/false);
  std::vector<double> prefill;
  std::vector<double> decode;
  for (int i = 0; i < workload.repetitions; ++i) {
    const Throughput once = run_once(runner, workload, clock, /*has_depth=*/i > 0);
    prefill.push_back(once.prefill_tokens_per_second);
    decode.push_back(once.decode_tokens_per_second);
  }
  return {median(prefill), median(decode)};
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
