// Models in Hugging Face's folders that are loaded when they are asked for.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>

#include "engine/engine.h"
#include "engine/recorded_request.h"
#include "engine/residency.h"
#include "format/model_folder.h"

namespace ridge::engine::folder_serving_test {
namespace {

std::string golden(const std::string& name) {
  return std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/" + name;
}

EngineOptions small_options() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  options.kv_cache_bytes = 4 << 20;
  return options;
}

// The tokens of a short answer.
int answer_of(Engine& engine) {
  RecordedRequest recorded(1);
  Request request;
  request.prompt_tokens = {1, 5, 7};
  request.max_tokens = 4;
  request.ignore_eos = true;
  std::promise<void> ended;
  RequestListener listener = recorded.listener();
  listener.on_finish = [finish = listener.on_finish, &ended](const Finish& value) {
    finish(value);
    ended.set_value();
  };
  engine.submit(std::move(request), std::move(listener));
  ended.get_future().wait();
  return recorded.token_counts.at(0);
}

// A model that is in memory and idle.
class Neighbour final : public Resident {
 public:
  explicit Neighbour(uint64_t bytes) : bytes_(bytes) {}
  uint64_t bytes() const override { return bytes_; }
  bool is_awake() const override { return is_awake_; }
  bool is_idle() const override { return is_awake_; }
  std::optional<Clock::TimePoint> wanted_since() const override { return std::nullopt; }
  Clock::TimePoint last_used() const override { return {}; }
  std::optional<Clock::Duration> stays_for() const override { return std::nullopt; }
  void wake() override { is_awake_ = true; }
  bool sleep() override {
    is_awake_ = false;
    return true;
  }
  void hold(bool) override {}

 private:
  uint64_t bytes_;
  std::atomic<bool> is_awake_ = true;
};

TEST(FolderServing, ADraftModelMayBeAFolder) {
  const SteadyClock clock;
  Residency residency({.budget_bytes = uint64_t{1} << 30}, clock);
  EngineOptions options = small_options();
  options.draft_model = golden("folders/llama-bf16");
  const auto engine =
      Engine::on_demand(golden("llama-bf16.gguf"), options, residency, /*is_pinned=*/false);
  EXPECT_EQ(answer_of(*engine), 4);
}

// FP8 becomes F16, which is twice as wide.
TEST(FolderServing, TakesTheRoomOfItsWeightsAndNotOfItsFiles) {
  const std::string folder = golden("folders/deepseek-v3-fp8");
  const auto file = format::open_model(folder);
  ASSERT_GT(file.tensor_bytes(), file.file_bytes());
  const EngineOptions options = small_options();
  const uint64_t needed_bytes = file.tensor_bytes() + options.kv_cache_bytes;
  for (const bool has_room : {true, false}) {
    const SteadyClock clock;
    Neighbour neighbour(1000);
    const uint64_t budget_bytes = neighbour.bytes() + needed_bytes - (has_room ? 0 : 1);
    Residency residency({.budget_bytes = budget_bytes}, clock);
    residency.add(neighbour, /*is_pinned=*/false);
    {
      const auto engine = Engine::on_demand(folder, options, residency, /*is_pinned=*/false);
      EXPECT_EQ(answer_of(*engine), 4);
      EXPECT_EQ(neighbour.is_awake(), has_room);
    }
    residency.remove(neighbour);
  }
}

}  // namespace
}  // namespace ridge::engine::folder_serving_test
