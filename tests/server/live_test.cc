// /v1/health/live over a real engine whose back end stands still.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/fake_runner.h"
#include "engine/loop_fixture.h"
#include "engine/serving_engine.h"
#include "raw_client.h"
#include "server/server.h"
#include "text/chat_template.h"

namespace ridge::server::live_test {
namespace {

using namespace std::chrono_literals;

constexpr engine::RunnerLimits limits = {.tokens = 32,
                                         .sequences = 2,
                                         .outputs = 2,
                                         .context_tokens = 64,
                                         .block_tokens = 4,
                                         .blocks = 64};

// Waits in every step for as long as `gate` is held.
std::shared_ptr<engine::Engine> stalling_engine(std::mutex& gate, const Clock& clock) {
  auto runner = std::make_unique<engine::FakeRunner>(
      limits, engine::small_tokenizer()->vocab_size(), [](const auto&) { return 30; });
  runner->before_step = [&gate](const engine::StepInputs&) { std::lock_guard hold(gate); };
  engine::ServingEngine::Parts parts;
  parts.runner = std::move(runner);
  parts.tokenizer = engine::small_tokenizer();
  parts.chat_template = text::ChatTemplate::from_source("{{ messages }}", "", "");
  parts.info.context_tokens = limits.context_tokens;
  parts.info.vocab_size = engine::small_tokenizer()->vocab_size();
  return std::make_shared<engine::ServingEngine>(std::move(parts), clock);
}

// Asks until the status is as wanted; the server looks at its engines once a second.
RawResponse wait_for_status(uint16_t port, const std::string& target, int status) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  RawResponse response;
  do {
    response = RawClient(port).ask(get(target));
    std::this_thread::sleep_for(5ms);
  } while (response.status != status && std::chrono::steady_clock::now() < until);
  EXPECT_EQ(response.status, status);
  return response;
}

TEST(Live, FollowsTheStepLoopsHeartbeat) {
  std::mutex gate;
  const SteadyClock clock;
  ServerOptions options;
  options.port = 0;
  options.no_auth = true;
  options.stall_timeout = 1ms;
  Server server(options, {api::serve_model("m", stalling_engine(gate, clock), 1)});
  std::thread thread([&] { server.run(); });
  EXPECT_EQ(RawClient(server.port()).ask(get("/v1/health/live")).status, 200);

  std::unique_lock hold(gate);
  RawClient client(server.port());
  client.send(post("/v1/completions", R"({"model":"m","prompt":[20,21],"max_tokens":3})"));
  const RawResponse stalled = wait_for_status(server.port(), "/v1/health/live", 503);
  EXPECT_EQ(nlohmann::json::parse(stalled.body)["status"], "stalled");
  EXPECT_EQ(RawClient(server.port()).ask(get("/v1/health/ready")).status, 503);

  hold.unlock();
  EXPECT_EQ(client.read().status, 200);
  wait_for_status(server.port(), "/v1/health/live", 200);
  server.stop();
  thread.join();
}

}  // namespace
}  // namespace ridge::server::live_test
