#include "model/stepper.h"

#include "base/error.h"

namespace ridge::model {

Stepper::Stepper(const Model& model, backend::Device& device, DType cache_dtype, Adapters adapters)
    : vocab_size_(model.config().vocab_size), stream_(device.create_stream()) {
  cache_ = device.create_kv_cache(
      model.kv_layout(max_sequences * blocks_per_sequence, block_tokens, cache_dtype));
  const auto allocate = [&](int count) {
    buffers_.push_back(device.allocate(count * sizeof(int32_t)));
    return buffers_.back().get();
  };
  inputs_.token_ids = allocate(max_tokens);
  inputs_.positions = allocate(max_tokens);
  inputs_.slots = allocate(max_tokens);
  inputs_.query_starts = allocate(max_sequences + 1);
  inputs_.context_lengths = allocate(max_sequences);
  inputs_.block_tables = allocate(max_sequences * blocks_per_sequence);
  inputs_.output_rows = allocate(max_tokens);
  inputs_.adapter_of_row = allocate(max_tokens);
  backend::Recorder recorder({.tokens = max_tokens,
                              .sequences = max_sequences,
                              .outputs = max_tokens,
                              .blocks_per_sequence = blocks_per_sequence},
                             inputs_, device.activation_dtype());
  output_ = recorder.mark_output(model.record(recorder, *cache_, adapters));
  program_ = device.compile(recorder.finish());
}

// Neighbouring blocks of a sequence lie far apart: 7 has no common factor with the blocks' number.
int Stepper::slot(int sequence, int position) const {
  const int index = sequence * blocks_per_sequence + position / block_tokens;
  const int block = (index * 7 + 3) % (max_sequences * blocks_per_sequence);
  return block * block_tokens + position % block_tokens;
}

void Stepper::upload(backend::Buffer* buffer, std::span<const int32_t> values) {
  stream_->upload(*buffer, 0, std::as_bytes(values));
}

std::vector<std::vector<float>> Stepper::step(std::span<const Chunk> chunks) {
  std::vector<int32_t> ids, positions, slots, starts = {0}, lengths, tables, rows, adapters;
  for (const Chunk& chunk : chunks) {
    int& length = lengths_[chunk.sequence];
    for (int32_t id : chunk.tokens) {
      rows.push_back(static_cast<int32_t>(ids.size()));
      adapters.push_back(chunk.adapter);
      ids.push_back(id);
      positions.push_back(length);
      slots.push_back(slot(chunk.sequence, length++));
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    lengths.push_back(length);
    for (int b = 0; b < blocks_per_sequence; ++b) {
      tables.push_back(slot(chunk.sequence, b * block_tokens) / block_tokens);
    }
  }
  upload(inputs_.token_ids, ids);
  upload(inputs_.positions, positions);
  upload(inputs_.slots, slots);
  upload(inputs_.query_starts, starts);
  upload(inputs_.context_lengths, lengths);
  upload(inputs_.block_tables, tables);
  upload(inputs_.output_rows, rows);
  upload(inputs_.adapter_of_row, adapters);
  const int count = static_cast<int>(ids.size());
  stream_->run(*program_,
               {.tokens = count, .sequences = static_cast<int>(chunks.size()), .outputs = count});
  std::vector<std::vector<float>> logits(count, std::vector<float>(vocab_size_));
  for (int i = 0; i < count; ++i) {
    stream_->download(program_->output(output_), i * vocab_size_ * sizeof(float),
                      std::as_writable_bytes(std::span(logits[i])));
  }
  stream_->synchronize();
  return logits;
}

}  // namespace ridge::model
