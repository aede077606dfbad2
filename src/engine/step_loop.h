#pragma once

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_runner.h"
#include "kvcache/block_pool.h"
#include "sampling/sampler.h"

namespace ridge::engine {

// What the engine does between two waits: takes requests, runs one step, tells the listeners. It
// has no thread and no lock, so that tests drive it step by step.
class StepLoop {
 public:
  // The runner and the clock must outlive it.
  StepLoop(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer,
           const Clock& clock);
  ~StepLoop();
  StepLoop(const StepLoop&) = delete;
  StepLoop& operator=(const StepLoop&) = delete;

  // Tokens that a prompt may hold and sampling may pick: those that model and tokenizer share.
  int vocab_size() const { return vocab_size_; }

  // The request must have passed check_request. Where it cannot be taken, for want of memory say,
  // it ends as failed, and nothing is thrown.
  void add(RequestId id, Request request, RequestListener listener, Clock::TimePoint submitted);
  // Ends it as cancelled and frees its blocks now; unknown ids are ignored.
  void cancel(RequestId id);
  void cancel_all();

  bool has_work() const { return !requests_.empty(); }
  // One forward pass for those that run. Never throws: a failure ends the requests that it met.
  void step();

  // Not counting requests that were not added yet.
  EngineStats stats() const;
  // Requests of which nothing was computed yet.
  int never_scheduled() const;

 private:
  struct Choice;
  struct ActiveRequest;

  void make_choices(ActiveRequest& active);
  void start_clocks(const Batch& batch);
  std::span<const float> run(const Batch& batch);
  void take_tokens(const Batch& batch, std::span<const float> logits);
  void take_token(Choice& choice, std::span<const float> logits);
  void add_siblings(ActiveRequest& request);
  void end_choice(Choice& choice, FinishReason reason);
  void end_request(ActiveRequest& request, FinishReason reason, std::optional<Error> error);
  void settle(ActiveRequest& request, std::optional<Error> error);
  void fail(const Batch& batch, const Error& error);

  StepRunner& runner_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  const Clock& clock_;
  const int vocab_size_;
  kvcache::BlockPool pool_;
  Scheduler scheduler_;
  StepInputs inputs_;
  sampling::Workspace workspace_;
  uint64_t next_sequence_ = 0;
  std::map<RequestId, std::unique_ptr<ActiveRequest>> requests_;
  std::unordered_map<SequenceId, Choice*> choices_;
  // Ended during a step; a batch may still point to their sequences.
  std::vector<std::unique_ptr<ActiveRequest>> ended_;
  EngineStats totals_;
};

}  // namespace ridge::engine
