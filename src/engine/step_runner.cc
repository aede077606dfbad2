#include "engine/step_runner.h"

#include <algorithm>
#include <cstring>

#include "backend/device.h"
#include "backend/recorder.h"
#include "base/error.h"
#include "model/model.h"
#include "tensor/float_formats.h"

namespace ridge::engine {

namespace {

class DeviceStepRunner final : public StepRunner {
 public:
  DeviceStepRunner(backend::Device& device, const model::Model& model, const RunnerLimits& limits)
      : limits_(limits), vocab_size_(model.config().vocab_size), stream_(device.create_stream()) {
    cache_ = device.create_kv_cache(
        model.kv_layout(limits.blocks, limits.block_tokens, limits.kv_dtype));
    allocate_inputs(device);
    backend::Recorder recorder(step_limits(), inputs_, device.activation_dtype());
    const backend::Value logits = model.record(recorder, *cache_);
    RIDGE_ASSERT(logits.columns == vocab_size_);
    output_ = recorder.mark_output(logits);
    recording_ = recorder.finish();
    output_dtype_ = recording_.storages[static_cast<size_t>(logits.storage)].dtype;
    program_ = device.compile(recording_);
  }

  const RunnerLimits& limits() const override { return limits_; }
  int vocab_size() const override { return vocab_size_; }

  std::span<const float> run(const StepInputs& inputs) override {
    RIDGE_ASSERT(inputs.tokens() <= limits_.tokens && inputs.sequences() <= limits_.sequences);
    RIDGE_ASSERT(inputs.outputs() <= limits_.outputs);
    upload(inputs_.token_ids, inputs.token_ids);
    upload(inputs_.positions, inputs.positions);
    upload(inputs_.slots, inputs.slots);
    upload(inputs_.query_starts, inputs.query_starts);
    upload(inputs_.context_lengths, inputs.context_lengths);
    upload(inputs_.block_tables, inputs.block_tables);
    upload(inputs_.output_rows, inputs.output_rows);
    stream_->run(
        *program_,
        {.tokens = inputs.tokens(), .sequences = inputs.sequences(), .outputs = inputs.outputs()});
    return download_logits(inputs.outputs());
  }

  size_t block_bytes() const override { return cache_->block_bytes(); }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    cache_->export_block(block.value, to);
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    cache_->import_block(block.value, from);
  }

 private:
  backend::StepLimits step_limits() const {
    return {.tokens = limits_.tokens,
            .sequences = limits_.sequences,
            .outputs = limits_.outputs,
            .blocks_per_sequence = blocks_per_sequence(limits_),
            .batch_invariant = limits_.batch_invariant};
  }

  void allocate_inputs(backend::Device& device) {
    const auto allocate = [&](int count) {
      buffers_.push_back(device.allocate(static_cast<size_t>(count) * sizeof(int32_t)));
      return buffers_.back().get();
    };
    inputs_.token_ids = allocate(limits_.tokens);
    inputs_.positions = allocate(limits_.tokens);
    inputs_.slots = allocate(limits_.tokens);
    inputs_.query_starts = allocate(limits_.sequences + 1);
    inputs_.context_lengths = allocate(limits_.sequences);
    inputs_.block_tables = allocate(limits_.sequences * blocks_per_sequence(limits_));
    inputs_.output_rows = allocate(limits_.outputs);
  }

  void upload(backend::Buffer* to, std::span<const int32_t> from) {
    if (!from.empty()) stream_->upload(*to, 0, std::as_bytes(from));
  }

  std::span<const float> download_logits(int outputs) {
    const size_t values = static_cast<size_t>(outputs) * static_cast<size_t>(vocab_size_);
    // A step of prompt chunks alone has no output.
    if (values == 0) {
      stream_->synchronize();
      return {};
    }
    raw_.resize(values * row_bytes(output_dtype_, 1));
    logits_.resize(values);
    const bool is_f32 = output_dtype_ == DType::f32;
    const std::span<std::byte> to =
        is_f32 ? std::as_writable_bytes(std::span(logits_)) : std::span(raw_);
    stream_->download(program_->output(output_), 0, to);
    stream_->synchronize();
    if (!is_f32) convert();
    return logits_;
  }

  void convert() {
    const bool is_f16 = output_dtype_ == DType::f16;
    RIDGE_ASSERT(is_f16 || output_dtype_ == DType::bf16);
    for (size_t i = 0; i < logits_.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, raw_.data() + i * sizeof(bits), sizeof(bits));
      logits_[i] = is_f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
  }

  const RunnerLimits limits_;
  const int vocab_size_;
  std::unique_ptr<backend::Stream> stream_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  backend::Recording recording_;
  std::unique_ptr<backend::Program> program_;
  int output_ = 0;
  DType output_dtype_ = DType::f32;
  std::vector<std::byte> raw_;
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<StepRunner> create_step_runner(backend::Device& device, const model::Model& model,
                                               const RunnerLimits& limits) {
  return std::make_unique<DeviceStepRunner>(device, model, limits);
}

}  // namespace ridge::engine
