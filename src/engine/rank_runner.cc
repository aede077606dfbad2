#include "engine/rank_runner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ridge::engine {

std::vector<RankReport> await_ranks(
    RankLink& link, const std::function<void(int64_t done_bytes, int64_t total_bytes)>& progress) {
  RankAnswer answer;
  while (true) {
    link.receive(bytes_of(answer));
    if (answer.kind != RankAnswer::Kind::progress) break;
    RankProgress loaded;
    RIDGE_ASSERT(answer.bytes == sizeof(loaded));
    link.receive(bytes_of(loaded));
    if (progress) progress(loaded.done_bytes, loaded.total_bytes);
  }
  RIDGE_ASSERT(answer.kind == RankAnswer::Kind::reports);
  std::vector<RankReport> reports(answer.bytes / sizeof(RankReport));
  link.receive(std::as_writable_bytes(std::span(reports)));
  const auto failed = std::ranges::find(reports, true, &RankReport::has_failed);
  if (failed != reports.end()) {
    link.close();
    throw Error(static_cast<ErrorCode>(failed->error_code),
                fmt::format("rank {}: {}", failed - reports.begin(), failed->message.data()));
  }
  return reports;
}

namespace {

class RankRunner final : public StepRunner {
 public:
  RankRunner(RankLink& link, const RankedModel& model, const RunnerLimits& limits)
      : link_(link), model_(model), limits_(limits) {
    order(RankOrder::Kind::prepare, {bytes_of(limits_)});
    await(bytes_of(block_bytes_));
  }
  ~RankRunner() override { link_.close(); }

  const RunnerLimits& limits() const override { return limits_; }
  int vocab_size() const override { return model_.vocab_size; }
  int hidden_size() const override { return model_.hidden_size; }
  bool guesses() const override { return model_.guesses; }

  std::span<const float> run(const StepInputs& inputs) override {
    tokens_ = inputs.tokens();
    return run(RankOrder::Kind::run, inputs, {}, inputs.outputs(), vocab_size());
  }
  std::span<const float> run_hidden(const StepInputs& inputs) override {
    return run(RankOrder::Kind::run_hidden, inputs, {}, inputs.outputs(), hidden_size());
  }
  std::span<const float> hidden() override {
    order(RankOrder::Kind::hidden, {});
    return await_floats(RankOrder::Kind::hidden, tokens_, hidden_size());
  }
  std::span<const float> run_guessing(const StepInputs& following,
                                      std::span<const float> hidden) override {
    return run(RankOrder::Kind::run_guessing, following, hidden, following.outputs(),
               hidden_size());
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    order(RankOrder::Kind::run_guess, {std::as_bytes(states)});
    return await_floats(RankOrder::Kind::run_guess,
                        static_cast<int>(states.size()) / hidden_size(), vocab_size());
  }

  size_t block_bytes() const override { return block_bytes_; }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    order(RankOrder::Kind::export_block, {bytes_of(block.value)});
    await(to);
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    order(RankOrder::Kind::import_block, {bytes_of(block.value), from});
    await({});
  }

 private:
  using Parts = std::initializer_list<std::span<const std::byte>>;

  void order(RankOrder::Kind kind, Parts parts, size_t inputs = 0) const {
    RankOrder order{.kind = kind, .inputs = static_cast<uint32_t>(inputs)};
    for (const auto& part : parts) order.bytes += part.size();
    link_.send(bytes_of(order));
    for (const auto& part : parts) {
      if (!part.empty()) link_.send(part);
    }
  }

  // An answer of just so many bytes.
  void await(std::span<std::byte> to) const {
    RankAnswer answer;
    link_.receive(bytes_of(answer));
    RIDGE_ASSERT(answer.kind == RankAnswer::Kind::done && answer.bytes == to.size());
    if (!to.empty()) link_.receive(to);
  }
  // Valid until the next answer to an order of this kind: whoever looks at logits copies blocks.
  std::span<const float> await_floats(RankOrder::Kind kind, int rows, int columns) {
    std::vector<float>& floats = floats_[static_cast<size_t>(kind)];
    floats.resize(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    await(std::as_writable_bytes(std::span(floats)));
    return floats;
  }

  std::span<const float> run(RankOrder::Kind kind, const StepInputs& inputs,
                             std::span<const float> given, int rows, int columns) {
    const std::vector<int32_t> packed = pack(inputs);
    order(kind, {std::as_bytes(std::span(packed)), std::as_bytes(given)}, packed.size());
    return await_floats(kind, rows, columns);
  }

  RankLink& link_;
  const RankedModel model_;
  const RunnerLimits limits_;
  uint64_t block_bytes_ = 0;  // of all ranks
  int tokens_ = 0;            // of the last run
  std::array<std::vector<float>, rank_orders> floats_;  // by RankOrder::Kind
};

}  // namespace

std::unique_ptr<StepRunner> create_rank_runner(RankLink& link, const RankedModel& model,
                                               const RunnerLimits& limits) {
  return std::make_unique<RankRunner>(link, model, limits);
}

}  // namespace ridge::engine
