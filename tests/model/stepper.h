#pragma once

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

// Drives a model step by step as an engine would: blocks scattered over the cache, several
// sequences in a step, logits of every token.
class Stepper {
 public:
  Stepper(const Model& model, backend::Device& device, DType cache_dtype, Adapters adapters = {});

  // logits[i]: [vocab] of token i of the step.
  std::vector<std::vector<float>> step(std::span<const Chunk> chunks);

 private:
  static constexpr int block_tokens = 16;
  static constexpr int blocks_per_sequence = 40;
  static constexpr int max_sequences = 4;
  static constexpr int max_tokens = 64;

  int slot(int sequence, int position) const;
  void upload(backend::Buffer* buffer, std::span<const int32_t> values);

  int vocab_size_;
  std::unique_ptr<backend::Stream> stream_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  std::unique_ptr<backend::Program> program_;
  int output_ = 0;
  std::map<int, int> lengths_;  // tokens in the cache, by sequence
};

}  // namespace ridge::model
