#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/device.h"
#include "engine/admission.h"
#include "engine/engine.h"
#include "engine/step_loop.h"
#include "engine/step_runner.h"

namespace ridge::engine {

// The Engine of a StepRunner: a thread that sleeps until there is work, then steps.
class ServingEngine final : public Engine {
 public:
  struct Parts {
    std::shared_ptr<void> owned;  // whatever the other parts and the clock need alive
    std::unique_ptr<StepRunner> runner;
    std::unique_ptr<StepRunner> draft_runner;  // may be null
    std::shared_ptr<const text::Tokenizer> tokenizer;
    std::shared_ptr<const text::ChatTemplate> chat_template;
    ModelInfo info;
    int max_queued = 256;  // at least 1; see may_wait
    StepLoopOptions options;
    // Of a model whose experts are paged; else empty. Called by any thread.
    std::function<backend::ExpertCounters()> expert_counters;
  };
  // The clock must outlive the engine.
  ServingEngine(Parts parts, const Clock& clock);
  // Cancels what still runs.
  ~ServingEngine() override;

  const ModelInfo& model_info() const override { return parts_.info; }
  const text::Tokenizer& tokenizer() const override { return *parts_.tokenizer; }
  const text::ChatTemplate& chat_template() const override { return *parts_.chat_template; }

  RequestId submit(Request request, RequestListener listener) override;
  void cancel(RequestId id) override;
  void end_thinking(RequestId id) override;
  EngineStats stats() const override;
  WaitingCounts waiting() const override;
  void drain(Clock::Duration deadline) override;

 private:
  struct Arrival {
    RequestId id;
    Request request;
    RequestListener listener;
    Clock::TimePoint submitted;
  };

  void serve();
  // What others asked for since the last step.
  struct Orders {
    std::vector<Arrival> arrivals;
    std::vector<RequestId> cancels;
    std::vector<RequestId> thinking_ends;
    bool cancel_all = false;
  };
  bool wait_for_work(Orders& orders);

  Parts parts_;
  MaskThreads masks_;
  const Clock& clock_;
  StepLoop loop_;  // of the thread alone, but for its constants

  mutable std::mutex mutex_;
  std::condition_variable work_;  // something for the thread to do
  std::condition_variable idle_;  // no request is left
  Orders orders_;
  uint64_t next_id_ = 1;
  EngineStats stats_;  // as of the last step
  // Of which nothing is computed yet; those that the thread has just taken still count.
  WaitingCounts waiting_;
  bool has_requests_ = false;
  bool draining_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace ridge::engine
