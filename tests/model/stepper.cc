#include "model/stepper.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace ridge::model {

Stepper::Stepper(const Model& model, backend::Device& device, DType cache_dtype, Adapters adapters,
                 StepperOptions options)
    : batch_invariant_(options.batch_invariant),
      vocab_size_(model.config().vocab_size),
      hidden_size_(model.config().hidden),
      stream_(device.create_stream()) {
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
  program_ = compile(device, [&](backend::Recorder& recorder) {
    if (!model.guesses()) {
      recorder.mark_output(model.record(recorder, *cache_, adapters));
      return;
    }
    const auto [logits, hidden] = model.record_predicting(recorder, *cache_, adapters);
    recorder.mark_output(logits);
    recorder.mark_output(hidden);
  }, options.watches_routers ? &routers_ : nullptr);
  if (!model.guesses()) return;
  guessing_ = compile(device, [&](backend::Recorder& recorder) {
    recorder.mark_output(model.record_guessing(recorder, *cache_));
  });
  guess_ = compile(device, [&](backend::Recorder& recorder) {
    recorder.mark_output(model.record_guess(recorder));
  });
}

std::unique_ptr<backend::Program> Stepper::compile(
    backend::Device& device, const std::function<void(backend::Recorder&)>& record,
    std::vector<WatchedRouter>* routers) const {
  backend::Recorder recorder({.tokens = max_tokens,
                              .sequences = max_sequences,
                              .outputs = max_tokens,
                              .blocks_per_sequence = blocks_per_sequence,
                              .batch_invariant = batch_invariant_},
                             inputs_, device.activation_dtype());
  record(recorder);
  backend::Recording recording = recorder.finish();
  for (const backend::Op& op : recording.ops) {
    const auto* route = std::get_if<backend::Route>(&op);
    if (route == nullptr || routers == nullptr) continue;
    RIDGE_ASSERT(route->router.groups == 1 && route->router.selection_bias == nullptr);
    routers->push_back({static_cast<int>(recording.outputs.size()), route->router.experts,
                        route->router.top_k});
    recording.outputs.push_back(route->logits);
  }
  return device.compile(recording);
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

// Positions go on from `lengths`.
backend::StepShape Stepper::upload(std::span<const Chunk> chunks, std::map<int, int>& lengths) {
  std::vector<int32_t> ids, positions, slots, starts = {0}, ends, tables, rows, adapters;
  for (const Chunk& chunk : chunks) {
    int& length = lengths[chunk.sequence];
    for (int32_t id : chunk.tokens) {
      rows.push_back(static_cast<int32_t>(ids.size()));
      adapters.push_back(chunk.adapter);
      ids.push_back(id);
      positions.push_back(length);
      slots.push_back(slot(chunk.sequence, length++));
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    ends.push_back(length);
    for (int b = 0; b < blocks_per_sequence; ++b) {
      tables.push_back(slot(chunk.sequence, b * block_tokens) / block_tokens);
    }
  }
  upload(inputs_.token_ids, ids);
  upload(inputs_.positions, positions);
  upload(inputs_.slots, slots);
  upload(inputs_.query_starts, starts);
  upload(inputs_.context_lengths, ends);
  upload(inputs_.block_tables, tables);
  upload(inputs_.output_rows, rows);
  upload(inputs_.adapter_of_row, adapters);
  const int count = static_cast<int>(ids.size());
  return {.tokens = count, .sequences = static_cast<int>(chunks.size()), .outputs = count};
}

std::vector<std::vector<float>> Stepper::download(const backend::Program& program, int output,
                                                  int rows, int columns) {
  std::vector<std::vector<float>> values(rows, std::vector<float>(columns));
  for (int i = 0; i < rows; ++i) {
    stream_->download(program.output(output), i * columns * sizeof(float),
                      std::as_writable_bytes(std::span(values[i])));
  }
  stream_->synchronize();
  return values;
}

std::vector<std::vector<float>> Stepper::step(std::span<const Chunk> chunks) {
  const backend::StepShape shape = upload(chunks, lengths_);
  tokens_ = shape.tokens;
  stream_->run(*program_, shape);
  return download(*program_, 0, tokens_, vocab_size_);
}

float Stepper::closest_choice() {
  float closest = std::numeric_limits<float>::infinity();
  for (const WatchedRouter& router : routers_) {
    for (auto& logits : download(*program_, router.output, tokens_, router.experts)) {
      std::ranges::sort(logits, std::greater());
      const auto top_k = static_cast<size_t>(router.top_k);
      closest = std::min(closest, logits[top_k - 1] - logits[top_k]);
    }
  }
  return closest;
}

std::vector<std::vector<float>> Stepper::hidden() {
  return download(*program_, 1, tokens_, hidden_size_);
}

Stepper::Guesses Stepper::guess(std::span<const Chunk> following,
                                const std::vector<std::vector<float>>& hidden) {
  const backend::StepShape shape = upload(following, guessed_lengths_);
  const auto give = [&](backend::Program& program, const std::vector<std::vector<float>>& rows,
                        const backend::StepShape& shape) {
    std::vector<float> all;
    for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
    stream_->upload(program.given(0), 0, std::as_bytes(std::span(all)));
    stream_->run(program, shape);
  };
  Guesses guesses;
  give(*guessing_, hidden, shape);
  guesses.hidden = download(*guessing_, 0, shape.outputs, hidden_size_);
  give(*guess_, guesses.hidden, {.outputs = shape.outputs});
  guesses.logits = download(*guess_, 0, shape.outputs, vocab_size_);
  return guesses;
}

}  // namespace ridge::model
