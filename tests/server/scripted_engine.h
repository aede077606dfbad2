#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace ridge::server {

// An engine that says what a test tells it, so that the server is judged without a model. Each
// request is played by a thread of its own.
class ScriptedEngine final : public engine::Engine {
 public:
  // What a script sees of one request.
  class Part {
   public:
    const engine::Request& request() const { return request_; }
    void say(std::string content, int choice = 0);
    void think(std::string reasoning, int choice = 0);
    // A piece of a call; the first one has a name.
    void call(int index, std::string name, std::string arguments);
    void embed(std::vector<float> embedding);
    void score_prompt(std::vector<engine::TokenInfo> tokens);
    void end_choice(int choice, engine::FinishReason reason = engine::FinishReason::stop);
    bool cancelled() const { return cancelled_; }
    // Until the request is asked to answer now; also when cancelled, as all are in the end.
    void wait_for_end_of_thinking();
    // Until the request is cancelled; false after longest_wait.
    bool wait_for_cancel();
    // Until the test calls `go`; also when cancelled, as all are in the end.
    void wait_for_go();

   private:
    friend class ScriptedEngine;
    Part(ScriptedEngine& engine, engine::Request request, engine::RequestListener listener);

    ScriptedEngine& engine_;
    const engine::Request request_;
    const engine::RequestListener listener_;
    std::atomic<bool> cancelled_{false};
    bool finishes_ = false;  // guarded by the engine's mutex
    std::atomic<bool> thinking_ended_{false};
    std::vector<engine::FinishReason> reasons_;  // of each choice; cancelled until said otherwise
    engine::Usage usage_;
  };
  // May throw ridge::Error: the request then fails with it. Choices that it did not end are ended
  // with stop, or with cancelled where the request was.
  using Script = std::function<void(Part&)>;

  explicit ScriptedEngine(Script script);
  ~ScriptedEngine() override;

  const engine::ModelInfo& model_info() const override { return info_; }
  const text::Tokenizer& tokenizer() const override;
  const text::ChatTemplate& chat_template() const override;
  engine::RequestId submit(engine::Request request, engine::RequestListener listener) override;
  void cancel(engine::RequestId id) override;
  void end_thinking(engine::RequestId id) override;
  void keep_loaded(Clock::Duration unused_for, engine::WhoAsks who) override;
  engine::EngineStats stats() const override;
  void drain(Clock::Duration deadline) override;

  void go();
  // Requests that are refused with queue_full from now on.
  void refuse_requests(bool refuse) { refuses_ = refuse; }
  int refused() const { return refused_; }
  // Holds up whoever asks for the tokenizer, as all text work does, from now on.
  void hold_text_work(bool holds);
  // Until somebody is held up; false after longest_wait.
  bool wait_until_held();
  void set_hidden_size(int size) { info_.hidden_size = size; }
  // From now on the tokenizer has no tokens that begin or end a text.
  void forget_special_tokens();
  // As keep_loaded was told last.
  std::optional<Clock::Duration> kept_for() const;
  std::optional<engine::WhoAsks> kept_by() const;
  int submitted() const { return submitted_; }
  int ended() const { return ended_; }
  int cancelled() const { return cancelled_; }
  // Until so many requests have come and each has had its end; false after longest_wait.
  bool wait_until_ended(int requests);

 private:
  void play(uint64_t id, std::shared_ptr<Part> part);

  const Script script_;
  engine::ModelInfo info_;
  std::shared_ptr<const text::Tokenizer> tokenizer_, forgotten_;
  std::shared_ptr<const text::ChatTemplate> chat_template_;
  std::atomic<bool> refuses_{false};
  std::atomic<int> refused_{0}, submitted_{0}, ended_{0}, cancelled_{0};

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool holds_text_work_ = false;
  mutable bool holds_somebody_ = false;
  bool draining_ = false;
  bool goes_ = false;
  std::optional<Clock::Duration> kept_for_;
  std::optional<engine::WhoAsks> kept_by_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Part>> parts_;
  std::vector<std::jthread> threads_;
};

}  // namespace ridge::server
