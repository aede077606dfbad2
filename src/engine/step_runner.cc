#include "engine/step_runner.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>

#include "backend/device.h"
#include "backend/recorder.h"
#include "base/error.h"
#include "model/model.h"
#include "tensor/float_formats.h"

namespace ridge::engine {

namespace {

// One recorded forward pass, and what it gives as the host reads it.
class Pass {
 public:
  using Record = std::function<backend::Value(backend::Recorder&)>;

  Pass(backend::Device& device, const backend::StepLimits& limits,
       const backend::StepBuffers& inputs, const Record& record)
      : outputs_(limits.outputs) {
    backend::Recorder recorder(limits, inputs, device.activation_dtype());
    const backend::Value value = record(recorder);
    columns_ = value.columns;
    output_ = recorder.mark_output(value);
    recording_ = recorder.finish();
    dtype_ = recording_.storages[static_cast<size_t>(value.storage)].dtype;
    program_ = device.compile(recording_);
  }

  int columns() const { return columns_; }

  std::span<const float> run(backend::Stream& stream, const backend::StepShape& shape) {
    RIDGE_ASSERT(shape.outputs <= outputs_);
    stream.run(*program_, shape);
    const size_t values = static_cast<size_t>(shape.outputs) * static_cast<size_t>(columns_);
    // A step of prompt chunks alone has no output.
    if (values == 0) {
      stream.synchronize();
      return {};
    }
    const backend::Buffer& output = program_->output(output_);
    const bool is_f32 = dtype_ == DType::f32;
    if (is_f32 && output.host_data() != nullptr) {
      stream.synchronize();
      return {reinterpret_cast<const float*>(output.host_data()), values};
    }
    raw_.resize(values * row_bytes(dtype_, 1));
    values_.resize(values);
    const std::span<std::byte> to =
        is_f32 ? std::as_writable_bytes(std::span(values_)) : std::span(raw_);
    stream.download(output, 0, to);
    stream.synchronize();
    if (!is_f32) convert();
    return values_;
  }

 private:
  void convert() {
    const bool is_f16 = dtype_ == DType::f16;
    RIDGE_ASSERT(is_f16 || dtype_ == DType::bf16);
    for (size_t i = 0; i < values_.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, raw_.data() + i * sizeof(bits), sizeof(bits));
      values_[i] = is_f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
  }

  const int outputs_;
  int columns_ = 0;
  backend::Recording recording_;
  std::unique_ptr<backend::Program> program_;
  int output_ = 0;
  DType dtype_ = DType::f32;
  std::vector<std::byte> raw_;
  std::vector<float> values_;
};

class DeviceStepRunner final : public StepRunner {
 public:
  DeviceStepRunner(backend::Device& device, const model::Model& model, const RunnerLimits& limits,
                   model::Adapters adapters)
      : device_(device),
        model_(model),
        adapters_(adapters),
        limits_(limits),
        stream_(device.create_stream()) {
    cache_ = device.create_kv_cache(
        model.kv_layout(limits.blocks, limits.block_tokens, limits.kv_dtype));
    allocate_inputs(device);
    const auto compile = [&](std::optional<Pass>& pass, model::Adapters with) {
      pass.emplace(device, step_limits(limits.outputs), inputs_, [&](backend::Recorder& recorder) {
        return model.record(recorder, *cache_, with);
      });
      RIDGE_ASSERT(pass->columns() == model.config().vocab_size);
    };
    if (!adapts_always()) compile(logits_, {});
    if (!adapters.empty()) compile(adapted_logits_, adapters);
  }

  const RunnerLimits& limits() const override { return limits_; }
  int vocab_size() const override { return model_.config().vocab_size; }
  int hidden_size() const override { return model_.config().hidden; }

  std::span<const float> run(const StepInputs& inputs) override {
    return (adapts(inputs) ? adapted_logits_ : logits_)->run(*stream_, upload(inputs));
  }

  std::span<const float> run_hidden(const StepInputs& inputs) override {
    const bool adapts_some = adapts(inputs);
    std::optional<Pass>& pass = adapts_some ? adapted_hidden_ : hidden_;
    if (!pass) {
      pass.emplace(device_, step_limits(limits_.tokens), inputs_, [&](backend::Recorder& recorder) {
        return model_.record_hidden(recorder, *cache_, adapts_some ? adapters_ : model::Adapters());
      });
    }
    return pass->run(*stream_, upload(inputs));
  }

  size_t block_bytes() const override { return cache_->block_bytes(); }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    cache_->export_block(block.value, to);
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    cache_->import_block(block.value, from);
  }

 private:
  // Steps that need no adapter take a program without, in which a device can fuse more. Its sums
  // may differ in the last bit, so where a step must not hang on its neighbours one program serves
  // all.
  bool adapts_always() const { return !adapters_.empty() && limits_.batch_invariant; }
  bool adapts(const StepInputs& inputs) const {
    return adapts_always() ||
           std::ranges::any_of(inputs.adapter_of_row, [](int32_t adapter) { return adapter >= 0; });
  }

  backend::StepLimits step_limits(int outputs) const {
    return {.tokens = limits_.tokens,
            .sequences = limits_.sequences,
            .outputs = outputs,
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
    inputs_.output_rows = allocate(std::max(limits_.outputs, limits_.tokens));
    if (!adapters_.empty()) inputs_.adapter_of_row = allocate(limits_.tokens);
  }

  backend::StepShape upload(const StepInputs& inputs) {
    RIDGE_ASSERT(inputs.tokens() <= limits_.tokens && inputs.sequences() <= limits_.sequences);
    upload(inputs_.token_ids, inputs.token_ids);
    upload(inputs_.positions, inputs.positions);
    upload(inputs_.slots, inputs.slots);
    upload(inputs_.query_starts, inputs.query_starts);
    upload(inputs_.context_lengths, inputs.context_lengths);
    upload(inputs_.block_tables, inputs.block_tables);
    upload(inputs_.output_rows, inputs.output_rows);
    if (!adapters_.empty()) upload(inputs_.adapter_of_row, inputs.adapter_of_row);
    return {
        .tokens = inputs.tokens(), .sequences = inputs.sequences(), .outputs = inputs.outputs()};
  }

  void upload(backend::Buffer* to, std::span<const int32_t> from) {
    if (!from.empty()) stream_->upload(*to, 0, std::as_bytes(from));
  }

  backend::Device& device_;
  const model::Model& model_;
  const model::Adapters adapters_;
  const RunnerLimits limits_;
  std::unique_ptr<backend::Stream> stream_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  std::optional<Pass> logits_;          // unless adapts_always
  std::optional<Pass> adapted_logits_;  // where there are adapters
  std::optional<Pass> hidden_;          // from its first use on
  std::optional<Pass> adapted_hidden_;  // likewise
};

}  // namespace

std::unique_ptr<StepRunner> create_step_runner(
    backend::Device& device, const model::Model& model, const RunnerLimits& limits,
    std::span<const std::unique_ptr<model::Adapter>> adapters) {
  return std::make_unique<DeviceStepRunner>(device, model, limits, adapters);
}

}  // namespace ridge::engine
