#include "engine/step_runner.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>

#include "backend/device.h"
#include "backend/linear_inputs.h"
#include "backend/recorder.h"
#include "base/error.h"
#include "model/model.h"
#include "tensor/float_formats.h"

namespace ridge::engine {

namespace {

// One recorded pass, and what it gives as the host reads it.
class Pass {
 public:
  using Record = std::function<std::vector<backend::Value>(backend::Recorder&)>;

  Pass(backend::Device& device, const backend::StepLimits& limits,
       const backend::StepBuffers& inputs, InputTap* tap, const Record& record)
      : limits_(limits), tap_(tap) {
    backend::Recorder recorder(limits, inputs, device.activation_dtype());
    const std::vector<backend::Value> values = record(recorder);
    for (const backend::Value& value : values) recorder.mark_output(value);
    recording_ = recorder.finish();
    if (tap_ != nullptr) keep_linear_inputs();
    for (const backend::Value& value : recording_.outputs) {
      const backend::Storage& storage = recording_.storages[static_cast<size_t>(value.storage)];
      outputs_.push_back({.rows = storage.rows, .columns = value.columns, .dtype = storage.dtype});
    }
    program_ = device.compile(recording_);
  }

  int columns() const { return outputs_.front().columns; }

  // Fills what the pass reads beside the step's inputs.
  void give(backend::Stream& stream, std::span<const float> values) {
    const backend::Value& given = recording_.given.front();
    RIDGE_ASSERT(recording_.storages[static_cast<size_t>(given.storage)].dtype == DType::f32);
    stream.upload(program_->given(0), 0, std::as_bytes(values));
  }

  // Its first output.
  std::span<const float> run(backend::Stream& stream, const backend::StepShape& shape) {
    RIDGE_ASSERT(shape.outputs <= limits_.outputs);
    stream.run(*program_, shape);
    shape_ = shape;
    if (tap_ != nullptr) show_linear_inputs(stream);
    return read(stream, 0);
  }

  // An output of the last run.
  std::span<const float> read(backend::Stream& stream, int index) {
    Output& out = outputs_[static_cast<size_t>(index)];
    const size_t values = static_cast<size_t>(rows_of(out)) * static_cast<size_t>(out.columns);
    // A step of prompt chunks alone has no logits.
    if (values == 0) {
      stream.synchronize();
      return {};
    }
    const backend::Buffer& output = program_->output(index);
    const bool is_f32 = out.dtype == DType::f32;
    if (is_f32 && output.host_data() != nullptr) {
      stream.synchronize();
      return {reinterpret_cast<const float*>(output.host_data()), values};
    }
    out.raw.resize(values * row_bytes(out.dtype, 1));
    out.values.resize(values);
    const std::span<std::byte> to =
        is_f32 ? std::as_writable_bytes(std::span(out.values)) : std::span(out.raw);
    stream.download(output, 0, to);
    stream.synchronize();
    if (!is_f32) convert(out);
    return out.values;
  }

 private:
  struct Output {
    backend::Rows rows;
    int columns = 0;
    DType dtype = DType::f32;
    std::vector<std::byte> raw;
    std::vector<float> values;
  };

  // A linear's input, and the outputs that it and its experts' ids stand in.
  struct Tapped {
    backend::LinearInput input;
    int x = -1;
    int ids = -1;
  };

  void keep_linear_inputs() {
    const auto output_of = [&](backend::Value value) {
      auto& outputs = recording_.outputs;
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (outputs[i].storage == value.storage) return static_cast<int>(i);
      }
      const int columns = recording_.storages[static_cast<size_t>(value.storage)].columns;
      outputs.push_back({.storage = value.storage, .column = 0, .columns = columns});
      return static_cast<int>(outputs.size()) - 1;
    };
    for (const backend::LinearInput& input : backend::linear_inputs(recording_)) {
      const int ids = input.ids.valid() ? output_of(input.ids) : -1;
      tapped_.push_back({input, output_of(input.x), ids});
    }
  }

  void show_linear_inputs(backend::Stream& stream) {
    for (const Tapped& tapped : tapped_) {
      const backend::Value& x = tapped.input.x;
      const Output& out = outputs_[static_cast<size_t>(tapped.x)];
      const std::span<const float> values = read(stream, tapped.x);
      if (values.empty()) continue;
      std::vector<int32_t> ids;
      if (tapped.ids >= 0) ids = read_ids(stream, tapped.ids);
      tap_->see(tapped.input,
                {values.data() + x.column, rows_of(out), x.columns, out.columns}, ids);
    }
  }

  std::vector<int32_t> read_ids(backend::Stream& stream, int index) const {
    const Output& out = outputs_[static_cast<size_t>(index)];
    RIDGE_ASSERT(out.dtype == DType::i32);
    std::vector<int32_t> ids(static_cast<size_t>(rows_of(out)) * static_cast<size_t>(out.columns));
    stream.download(program_->output(index), 0, std::as_writable_bytes(std::span(ids)));
    stream.synchronize();
    return ids;
  }

  int rows_of(const Output& out) const {
    return out.rows == backend::Rows::tokens ? shape_.tokens : shape_.outputs;
  }

  static void convert(Output& out) {
    const bool is_f16 = out.dtype == DType::f16;
    RIDGE_ASSERT(is_f16 || out.dtype == DType::bf16);
    for (size_t i = 0; i < out.values.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, out.raw.data() + i * sizeof(bits), sizeof(bits));
      out.values[i] = is_f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
  }

  const backend::StepLimits limits_;
  InputTap* const tap_;
  std::vector<Tapped> tapped_;
  backend::StepShape shape_;  // of the last run
  backend::Recording recording_;
  std::unique_ptr<backend::Program> program_;
  std::vector<Output> outputs_;
};

class DeviceStepRunner final : public StepRunner {
 public:
  DeviceStepRunner(backend::Device& device, const model::Model& model, const RunnerLimits& limits,
                   model::Adapters adapters, InputTap* tap)
      : device_(device),
        model_(model),
        adapters_(adapters),
        tap_(tap),
        limits_(limits),
        stream_(device.create_stream()) {
    cache_ = device.create_kv_cache(
        model.kv_layout(limits.blocks, limits.block_tokens, limits.kv_dtype));
    allocate_inputs(device);
    const auto compile = [&](std::optional<Pass>& pass, model::Adapters with) {
      pass.emplace(device, step_limits(limits.outputs), inputs_, /*tap=*/nullptr,
                   [&](backend::Recorder& recorder) { return record(recorder, with); });
      RIDGE_ASSERT(pass->columns() == model.config().vocab_size);
    };
    if (!adapts_always()) compile(logits_, {});
    if (!adapters.empty()) compile(adapted_logits_, adapters);
    if (!model.guesses()) return;
    const backend::StepLimits guessing = step_limits(limits.sequences);
    guessing_.emplace(device, guessing, inputs_, /*tap=*/nullptr, [&](backend::Recorder& recorder) {
      return std::vector{model.record_guessing(recorder, *cache_)};
    });
    guess_.emplace(device, guessing, inputs_, /*tap=*/nullptr, [&](backend::Recorder& recorder) {
      return std::vector{model.record_guess(recorder)};
    });
  }

  const RunnerLimits& limits() const override { return limits_; }
  int vocab_size() const override { return model_.config().vocab_size; }
  int hidden_size() const override { return model_.config().hidden; }

  std::span<const float> run(const StepInputs& inputs) override {
    last_ = &*(adapts(inputs) ? adapted_logits_ : logits_);
    return last_->run(*stream_, upload(inputs));
  }

  std::span<const float> run_hidden(const StepInputs& inputs) override {
    const bool adapts_some = adapts(inputs);
    std::optional<Pass>& pass = adapts_some ? adapted_hidden_ : hidden_;
    if (!pass) {
      pass.emplace(device_, step_limits(limits_.tokens), inputs_, tap_,
                   [&](backend::Recorder& recorder) {
                     return std::vector{model_.record_hidden(
                         recorder, *cache_, adapts_some ? adapters_ : model::Adapters())};
                   });
    }
    return pass->run(*stream_, upload(inputs));
  }

  bool guesses() const override { return model_.guesses(); }
  std::span<const float> hidden() override { return last_->read(*stream_, 1); }
  std::span<const float> run_guessing(const StepInputs& following,
                                      std::span<const float> hidden) override {
    RIDGE_ASSERT(hidden.size() == static_cast<size_t>(following.tokens() * hidden_size()));
    guessing_->give(*stream_, hidden);
    return guessing_->run(*stream_, upload(following));
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    guess_->give(*stream_, states);
    const int rows = static_cast<int>(states.size()) / hidden_size();
    return guess_->run(*stream_, {.outputs = rows});
  }

  size_t block_bytes() const override { return cache_->block_bytes(); }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    cache_->export_block(block.value, to);
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    cache_->import_block(block.value, from);
  }

 private:
  std::vector<backend::Value> record(backend::Recorder& recorder, model::Adapters adapters) const {
    if (!model_.guesses()) return {model_.record(recorder, *cache_, adapters)};
    const auto [logits, hidden] = model_.record_predicting(recorder, *cache_, adapters);
    return {logits, hidden};
  }

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
  InputTap* const tap_;  // of the hidden states' pass
  const RunnerLimits limits_;
  std::unique_ptr<backend::Stream> stream_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  std::optional<Pass> logits_;          // unless adapts_always
  std::optional<Pass> adapted_logits_;  // where there are adapters
  std::optional<Pass> hidden_;          // from its first use on
  std::optional<Pass> adapted_hidden_;  // likewise
  std::optional<Pass> guessing_;        // where the model guesses
  std::optional<Pass> guess_;           // likewise
  Pass* last_ = nullptr;                // of the two for logits
};

}  // namespace

std::unique_ptr<StepRunner> create_step_runner(
    backend::Device& device, const model::Model& model, const RunnerLimits& limits,
    std::span<const std::unique_ptr<model::Adapter>> adapters, InputTap* tap) {
  return std::make_unique<DeviceStepRunner>(device, model, limits, adapters, tap);
}

}  // namespace ridge::engine
