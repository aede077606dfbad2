#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvcache/block_table.h"
#include "tensor/dtype.h"

namespace ridge::backend {
class Device;
class KvCache;
struct LinearInput;
}  // namespace ridge::backend

namespace ridge::model {
class Adapter;
class Model;
}  // namespace ridge::model

namespace ridge::engine {

// Most that one step may hold.
struct RunnerLimits {
  int tokens = 512;
  int sequences = 16;
  int outputs = 16;         // rows of logits
  int scoring_outputs = 0;  // of those, as SchedulerLimits
  int context_tokens = 0;   // of one sequence
  int block_tokens = 16;    // a power of two
  int blocks = 0;           // of the KV cache
  DType kv_dtype = DType::f16;
  bool batch_invariant = false;  // as backend::StepLimits
};

// The inputs of one forward pass, as StepBuffers hold them.
class StepInputs {
 public:
  // blocks_per_sequence: the width of a block table's row.
  explicit StepInputs(int blocks_per_sequence) : blocks_per_sequence_(blocks_per_sequence) {}

  void clear();
  // `tokens` go to the positions from `first_position` on, which `blocks` has reserved.
  // logits: rows of logits, for the last so many of the tokens. adapter: of the runner's; -1: none.
  void add(std::span<const int32_t> tokens, int first_position, const kvcache::BlockTable& blocks,
           int logits, int adapter = -1);

  int tokens() const { return static_cast<int>(token_ids.size()); }
  int sequences() const { return static_cast<int>(context_lengths.size()); }
  int outputs() const { return static_cast<int>(output_rows.size()); }

  std::vector<int32_t> token_ids;        // [T]
  std::vector<int32_t> positions;        // [T]
  std::vector<int32_t> slots;            // [T]
  std::vector<int32_t> query_starts{0};  // [S + 1]
  std::vector<int32_t> context_lengths;  // [S]
  std::vector<int32_t> block_tables;     // [S, blocks_per_sequence]
  std::vector<int32_t> output_rows;      // [R]
  std::vector<int32_t> adapter_of_row;   // [T]

 private:
  int blocks_per_sequence_;
};

// Runs forward passes. One thread at a time.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  virtual const RunnerLimits& limits() const = 0;
  virtual int vocab_size() const = 0;
  // Logits [inputs.outputs(), vocab_size()] in float32, valid until the next call. Throws what the
  // device throws.
  virtual std::span<const float> run(const StepInputs& inputs) = 0;

  // The same pass without the output head: the normed hidden states [inputs.outputs(),
  // hidden_size()], of as many rows as a step has tokens. The first call compiles it.
  virtual int hidden_size() const = 0;
  virtual std::span<const float> run_hidden(const StepInputs& inputs) = 0;

  // Whether the model has a layer for multi-token prediction (Model::guesses); what follows is for
  // those that do. The normed hidden states of the last run, [inputs.tokens(), hidden_size()], valid
  // until the next.
  virtual bool guesses() const { return false; }
  virtual std::span<const float> hidden() { return {}; }
  // The layer, of tokens that follow those of the hidden states [inputs.tokens(), hidden_size()]:
  // its own states [inputs.outputs(), hidden_size()], of as many rows as there are sequences at
  // most. An entry of position i is written of the token behind i.
  virtual std::span<const float> run_guessing(const StepInputs& /*following*/,
                                              std::span<const float> /*hidden*/) {
    return {};
  }
  // Logits [n, vocab_size()] of n such states, n being the sequences of a step at most.
  virtual std::span<const float> run_guess(std::span<const float> /*states*/) { return {}; }

  // A block's keys and values over all layers, between two runs.
  virtual size_t block_bytes() const = 0;
  virtual void export_block(kvcache::BlockId block, std::span<std::byte> to) const = 0;
  virtual void import_block(kvcache::BlockId block, std::span<const std::byte> from) = 0;
};

// Rows of float32 values, a stride apart.
struct TappedRows {
  const float* first;  // [rows, columns]
  int rows;
  int columns;
  int stride;
};

// Sees what went into each linear of a run_hidden, once that is over.
class InputTap {
 public:
  virtual ~InputTap() = default;
  // ids: [x.rows, choices] of an expert_linear, else empty.
  virtual void see(const backend::LinearInput& input, const TappedRows& x,
                   std::span<const int32_t> ids) = 0;
};

// A StepRunner for a model on a device: owns the KV cache, the input buffers and the compiled
// programs. Model, adapters and device must outlive it. With a tap, which must outlive it as well,
// run_hidden's program keeps all inputs of its linears, at the cost of memory and of fusion. Throws
// out_of_memory, unsupported.
std::unique_ptr<StepRunner> create_step_runner(
    backend::Device& device, const model::Model& model, const RunnerLimits& limits,
    std::span<const std::unique_ptr<model::Adapter>> adapters = {}, InputTap* tap = nullptr);

// The blocks that a sequence of the limits' context fills.
inline int blocks_per_sequence(const RunnerLimits& limits) {
  return kvcache::BlockTable::blocks_for(limits.context_tokens, limits.block_tokens);
}

}  // namespace ridge::engine
