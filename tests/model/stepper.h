#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "backend/device.h"
#include "backend/recorder.h"
#include "model/model.h"

namespace ridge::model {

// Tokens of one sequence to go into the next step.
struct Chunk {
  int sequence;
  std::vector<int32_t> tokens;
  int adapter = -1;  // of the stepper's; -1: none
};

struct StepperOptions {
  bool batch_invariant = false;
  bool watches_routers = false;  // closest_choice() is known
};

// Drives a model step by step as an engine would: blocks scattered over the cache, several
// sequences in a step, logits of every token.
class Stepper {
 public:
  Stepper(const Model& model, backend::Device& device, DType cache_dtype, Adapters adapters = {},
          StepperOptions options = {});

  // logits[i]: [vocab] of token i of the step.
  std::vector<std::vector<float>> step(std::span<const Chunk> chunks);
  // How far apart in a router's logits an expert that it chose and one that it did not were in the last
  // step: the least of all tokens and layers. Of routers without groups and bias; infinite without any.
  float closest_choice();
  // Of a model that guesses: the hidden states after the last step, [tokens][hidden].
  std::vector<std::vector<float>> hidden();
  // The layer for multi-token prediction on tokens that follow those of the hidden states: the
  // states that it gives for each, and their logits.
  struct Guesses {
    std::vector<std::vector<float>> hidden, logits;
  };
  Guesses guess(std::span<const Chunk> following, const std::vector<std::vector<float>>& hidden);

 private:
  static constexpr int block_tokens = 16;
  static constexpr int blocks_per_sequence = 40;
  static constexpr int max_sequences = 4;
  static constexpr int max_tokens = 64;

  int slot(int sequence, int position) const;
  void upload(backend::Buffer* buffer, std::span<const int32_t> values);
  backend::StepShape upload(std::span<const Chunk> chunks, std::map<int, int>& lengths);
  struct WatchedRouter {
    int output;  // of program_
    int experts, top_k;
  };
  std::unique_ptr<backend::Program> compile(
      backend::Device& device, const std::function<void(backend::Recorder&)>& record,
      std::vector<WatchedRouter>* routers = nullptr) const;
  std::vector<std::vector<float>> download(const backend::Program& program, int output, int rows,
                                           int columns);

  bool batch_invariant_;
  int vocab_size_;
  int hidden_size_;
  std::unique_ptr<backend::Stream> stream_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  std::unique_ptr<backend::Program> program_;
  std::unique_ptr<backend::Program> guessing_, guess_;  // null where the model does not guess
  std::vector<WatchedRouter> routers_;
  int tokens_ = 0;  // of the last step
  std::map<int, int> lengths_;  // tokens in the cache, by sequence
  std::map<int, int> guessed_lengths_;  // likewise of the layer that guesses
};

}  // namespace ridge::model
