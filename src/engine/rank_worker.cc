#include "engine/rank_worker.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string_view>
#include <vector>

#include "backend/registry.h"
#include "base/clock.h"
#include "base/machine_memory.h"
#include "engine/rank_messages.h"
#include "format/model_folder.h"

namespace ridge::engine {

namespace {

constexpr std::chrono::milliseconds progress_interval{100};

Error error_of(const std::exception& thrown) {
  if (const auto* error = dynamic_cast<const Error*>(&thrown)) return *error;
  const bool lacks_memory = dynamic_cast<const std::bad_alloc*>(&thrown) != nullptr;
  return lacks_memory ? Error(ErrorCode::out_of_memory, "this rank's part does not fit in memory")
                      : Error(ErrorCode::internal, thrown.what());
}

uint64_t host_number() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return std::hash<std::string_view>()(name.data());
}

class RankWorker {
 public:
  RankWorker(backend::Communicator& group, RankLink* engine) : group_(group), engine_(engine) {
    RIDGE_ASSERT((engine == nullptr) == (group.rank() != 0));
  }

  // False where one rank, this or another, has not.
  bool load(const std::filesystem::path& path, model::ModelOptions options,
            const std::string& device, const backend::DeviceOptions& device_options) {
    RankReport report{.host = host_number()};
    try {
      options.rank = {group_.rank(), group_.ranks()};
      if (engine_ != nullptr) {
        options.progress = [this](int64_t done, int64_t total) { tell_progress(done, total); };
      }
      device_ = backend::open_rank_device(device, device_options, group_);
      file_ = std::make_unique<format::GgufFile>(
          format::open_model(path, device_options.threads));
      model_ = model::Model::load(*file_, *device_, options);
      report.cache_token_bytes = model_->kv_layout().bytes_per_token();
    } catch (const std::exception& thrown) {
      const Error error = error_of(thrown);
      report.has_failed = true;
      report.error_code = static_cast<uint32_t>(error.code());
      const size_t length = std::min(error.message().size(), report.message.size() - 1);
      std::memcpy(report.message.data(), error.message().data(), length);
    }
    gather(report);  // so that memory is asked for when all have what they need
    report.available_bytes = available_memory_bytes();
    const std::vector<RankReport> reports = gather(report);
    answer(RankAnswer::Kind::reports, std::as_bytes(std::span(reports)));
    return std::ranges::none_of(reports, &RankReport::has_failed);
  }

  void serve() {
    while (take_order()) {
    }
  }

 private:
  // Of each rank.
  template <typename T>
  std::vector<T> gather(const T& own) {
    std::vector<T> all(static_cast<size_t>(group_.ranks()));
    const std::vector<size_t> counts(all.size(), sizeof(T));
    group_.all_gather(bytes_of(own), counts, std::as_writable_bytes(std::span(all)));
    return all;
  }

  void tell_progress(int64_t done_bytes, int64_t total_bytes) {
    const auto now = clock_.now();
    if (now - told_ < progress_interval && done_bytes < total_bytes) return;
    told_ = now;
    const RankProgress progress{done_bytes, total_bytes};
    answer(RankAnswer::Kind::progress, bytes_of(progress));
  }

  // From rank 0; the others have nobody to tell.
  void answer(RankAnswer::Kind kind, std::span<const std::byte> bytes) {
    if (engine_ == nullptr) return;
    const RankAnswer answer{kind, bytes.size()};
    engine_->send(bytes_of(answer));
    if (!bytes.empty()) engine_->send(bytes);
  }

  bool take_order() {
    RankOrder order;
    if (engine_ != nullptr) order = next_order();
    group_.broadcast(bytes_of(order));
    payload_.resize(order.bytes);
    if (order.bytes > 0) {
      if (engine_ != nullptr) engine_->receive(payload_);
      group_.broadcast(payload_);
    }
    obey(order);
    return order.kind != RankOrder::Kind::leave;
  }

  // `leave` where the engine has closed the link, or is gone.
  RankOrder next_order() {
    RankOrder order;
    try {
      engine_->receive(bytes_of(order));
      return order;
    } catch (const Error&) {
      return {.kind = RankOrder::Kind::leave};
    }
  }

  void obey(const RankOrder& order) {
    using Kind = RankOrder::Kind;
    switch (order.kind) {
      case Kind::prepare: return prepare();
      case Kind::run: return answer_floats(runner_->run(inputs(order)));
      case Kind::hidden: return answer_floats(runner_->hidden());
      case Kind::run_hidden: return answer_floats(runner_->run_hidden(inputs(order)));
      case Kind::run_guessing: {
        const StepInputs& following = inputs(order);
        return answer_floats(runner_->run_guessing(following, floats(order)));
      }
      case Kind::run_guess: return answer_floats(runner_->run_guess(floats(order)));
      case Kind::export_block: return export_block();
      case Kind::import_block: return import_block();
      case Kind::leave: return;
    }
  }

  void prepare() {
    RunnerLimits limits;
    RIDGE_ASSERT(payload_.size() == sizeof(limits));
    std::memcpy(&limits, payload_.data(), sizeof(limits));
    runner_ = create_step_runner(*device_, *model_, limits);
    inputs_ = std::make_unique<StepInputs>(blocks_per_sequence(limits));
    block_bytes_ = gather(runner_->block_bytes());
    const uint64_t all = all_block_bytes();
    answer(RankAnswer::Kind::done, bytes_of(all));
  }
  uint64_t all_block_bytes() const {
    uint64_t all = 0;
    for (const size_t bytes : block_bytes_) all += bytes;
    return all;
  }

  const StepInputs& inputs(const RankOrder& order) {
    packed_.resize(order.inputs);
    std::memcpy(packed_.data(), payload_.data(), packed_.size() * sizeof(int32_t));
    unpack(packed_, *inputs_);
    return *inputs_;
  }
  // Those behind the inputs.
  std::span<const float> floats(const RankOrder& order) {
    const size_t first = order.inputs * sizeof(int32_t);
    floats_.resize((payload_.size() - first) / sizeof(float));
    std::memcpy(floats_.data(), payload_.data() + first, floats_.size() * sizeof(float));
    return floats_;
  }
  void answer_floats(std::span<const float> values) {
    answer(RankAnswer::Kind::done, std::as_bytes(values));
  }

  kvcache::BlockId block() const {
    kvcache::BlockId block{};
    RIDGE_ASSERT(payload_.size() >= sizeof(block.value));
    std::memcpy(&block.value, payload_.data(), sizeof(block.value));
    return block;
  }
  void export_block() {
    std::vector<std::byte> own(runner_->block_bytes());
    runner_->export_block(block(), own);
    std::vector<std::byte> all(all_block_bytes());
    group_.all_gather(own, block_bytes_, all);
    answer(RankAnswer::Kind::done, all);
  }
  void import_block() {
    const auto rank = static_cast<ptrdiff_t>(group_.rank());
    size_t first = sizeof(block().value);
    for (ptrdiff_t r = 0; r < rank; ++r) first += block_bytes_[static_cast<size_t>(r)];
    runner_->import_block(block(),
                          std::span<const std::byte>(payload_).subspan(first,
                                                                       runner_->block_bytes()));
    answer(RankAnswer::Kind::done, {});
  }

  backend::Communicator& group_;
  RankLink* const engine_;
  const SteadyClock clock_;
  Clock::TimePoint told_{};
  std::unique_ptr<backend::Device> device_;
  std::unique_ptr<format::GgufFile> file_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<StepInputs> inputs_;
  std::vector<size_t> block_bytes_;  // of each rank's cache
  std::vector<std::byte> payload_;   // of the order that is obeyed
  std::vector<int32_t> packed_;
  std::vector<float> floats_;
};

}  // namespace

void serve_rank(const std::filesystem::path& model, model::ModelOptions options,
                const std::string& device, const backend::DeviceOptions& device_options,
                backend::Communicator& group, RankLink* engine) {
  RankWorker worker(group, engine);
  if (worker.load(model, std::move(options), device, device_options)) worker.serve();
}

}  // namespace ridge::engine
