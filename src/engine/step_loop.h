#pragma once

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/admission.h"
#include "engine/answer.h"
#include "engine/block_spill.h"
#include "engine/draft_model.h"
#include "engine/engine.h"
#include "engine/mask_pool.h"
#include "engine/mtp_drafter.h"
#include "engine/pace.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_runner.h"
#include "kvcache/block_pool.h"
#include "kvcache/prefix_cache.h"
#include "sampling/sampler.h"

namespace ridge::engine {

struct StepLoopOptions {
  bool prefix_cache = true;  // prompts that begin alike share what was computed, within a group
  bool speculation = true;   // guesses from what a sequence has repeated, where that pays
  double itl_target_ms = 0;  // between two tokens of an answer; 0: prompts take whole steps
  SpillOptions spill;        // for blocks that the prefix cache has no room for
  // Where masks of grammars are computed while a step goes on; nullptr: in the step itself. Must
  // outlive the loop.
  MaskPool* masks = nullptr;
};

// What the engine does between two waits: takes requests, runs one step, tells the listeners. It
// has no thread and no lock, so that tests drive it step by step.
class StepLoop {
 public:
  // The runners and the clock must outlive it. draft_runner: of a small model that guesses, or
  // null: then the model's own layer for it does, where it has one.
  StepLoop(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer, const Clock& clock,
           const StepLoopOptions& options = {}, StepRunner* draft_runner = nullptr);
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
  // Its answers think no more, as with a spent thinking_budget; unknown ids are ignored.
  void end_thinking(RequestId id);

  bool has_work() const { return !requests_.empty(); }
  // One forward pass for those that run. Never throws: a failure ends the requests that it met.
  void step();

  // Not counting requests that were not added yet.
  EngineStats stats() const;
  // Requests of which nothing was computed yet, by group.
  WaitingCounts never_scheduled() const;

 private:
  struct Choice;
  struct ActiveRequest;

  void make_choices(ActiveRequest& active);
  void end_overdue();
  int guess();
  int propose_drafts();
  void take_models_draft(Choice& choice, std::span<const int32_t> draft);
  void take_draft(Choice& choice, std::span<const int32_t> draft);
  void forget(Choice& choice);
  void release_ended();
  void propose_by_layer(std::span<Choice* const> choices, std::span<MtpDrafter::Job> jobs);
  std::vector<MtpDrafter::Part> parts_of(const Batch& batch) const;
  void follow(const Batch& batch);
  void keep_unshared(const Batch& batch);
  static bool lacks_mask(const Choice& choice);
  bool start_mask(Choice& choice);
  void seat_choices();
  void wait_for_masks();
  void start_masks(const Batch& batch);
  void await_masks(Batch& batch);
  bool await_mask_of_guess(Choice& choice);
  void start_clocks(const Batch& batch);
  void trace_places();
  void trace_place(Choice& choice, Clock::TimePoint now);
  void trace_prefills(const Batch& batch, Clock::TimePoint start);
  void trace_token(Choice& choice, bool is_right);
  void trace_end(Choice& choice);
  std::span<const int32_t> tokens_of(const Chunk& chunk) const;  // without guesses
  void run_hidden(Batch& batch);
  void add_hidden(ActiveRequest& request, const Chunk& chunk, std::span<const float>& hidden);
  void end_embeddings(const Batch& batch);
  std::span<const float> run(const Batch& batch);
  void take_logits(const Batch& batch, std::span<const float> logits);
  void take_tokens(Choice& choice, const Chunk& chunk, std::span<const float> logits);
  bool take_token(Choice& choice, std::span<const float> logits, std::optional<int32_t> guess);
  void take_prompt_logprobs(ActiveRequest& request, const Chunk& chunk,
                            std::span<const float> logits);
  void end_prompt(ActiveRequest& request, std::span<const float> logits);
  void add_sibling(ActiveRequest& request, Choice& choice, std::span<const float> logits);
  std::span<const float> row(std::span<const float> logits, int index) const;
  void end_choice(Choice& choice, FinishReason reason);
  void end_request(ActiveRequest& request, FinishReason reason, std::optional<Error> error);
  void settle(ActiveRequest& request, std::optional<Error> error);
  void fail(const Batch& batch, const Error& error);
  void fail_to_plan(const Error& error);

  StepRunner& runner_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  const Clock& clock_;
  const StepLoopOptions options_;
  const int vocab_size_;
  std::unique_ptr<MtpDrafter> mtp_;  // where the model's own layer guesses, and no draft model
  kvcache::BlockPool pool_;
  std::unique_ptr<kvcache::SpillStore> spill_;  // may be null
  kvcache::PrefixCache cache_;
  Scheduler scheduler_;
  StepCost cost_;
  Pace pace_;
  std::unique_ptr<DraftModel> draft_model_;  // may be null
  StepInputs inputs_;
  // What the step's run was, whose time is known when the layer that guesses has followed.
  struct Ran {
    int rows = 0, prompt_tokens = 0;
    double ms = 0;
  };
  std::optional<Ran> ran_;
  sampling::Workspace workspace_;
  uint64_t next_sequence_ = 0;
  int plans_failed_ = 0;  // one after the other
  std::map<RequestId, std::unique_ptr<ActiveRequest>> requests_;
  std::unordered_map<SequenceId, Choice*> choices_;
  // Ended during a step; a batch may still point to their sequences.
  std::vector<std::unique_ptr<ActiveRequest>> ended_;
  // Their blocks are still to be filled by the layer that guesses.
  std::vector<Sequence*> leaving_;
  // Choices that go on where another's prompt ends, in this step.
  std::vector<std::pair<const Sequence*, Sequence*>> forked_;
  // Until when the step waits for masks that are not ready when its logits are.
  std::optional<Clock::TimePoint> masks_until_;
  EngineStats totals_;
};

}  // namespace ridge::engine
