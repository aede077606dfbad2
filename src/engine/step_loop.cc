#include "engine/step_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "engine/active_request.h"
#include "sampling/random.h"
#include "text/tokenizer.h"

namespace ridge::engine {

namespace {

// Whether the model's own layer guesses.
bool uses_layer(const StepRunner& runner, const StepLoopOptions& options,
                const StepRunner* draft_runner) {
  return options.speculation && draft_runner == nullptr && runner.guesses();
}

SchedulerLimits scheduler_limits(const RunnerLimits& limits, const StepLoopOptions& options) {
  return {.step_tokens = limits.tokens,
          .max_sequences = limits.sequences,
          .block_tokens = limits.block_tokens,
          .outputs = limits.outputs,
          .scoring_outputs = limits.scoring_outputs,
          .shares_prefixes = options.prefix_cache};
}

// Neither another group's blocks nor another adapter's may serve a request, nor, where a layer
// guesses, those of embeddings, which that layer has not followed.
std::string cache_root(const Request& request, bool looks_ahead) {
  const bool is_apart = looks_ahead && request.embedding;
  return fmt::format("{}{}:{}", is_apart ? "embedding:" : "", request.adapter, request.group);
}

// Guesses that one sequence may have in a step.
constexpr int most_drafts = 15;
// Each of a model's costs a pass of its own.
constexpr int most_model_drafts = 8;
// A layer that was made to guess one token is right less often about further ones.
constexpr int most_layer_drafts = 4;
// Steps, one after the other, that cannot be planned.
constexpr int most_failed_plans = 3;

}  // namespace

StepLoop::StepLoop(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer,
                   const Clock& clock, const StepLoopOptions& options, StepRunner* draft_runner)
    : runner_(runner),
      tokenizer_(std::move(tokenizer)),
      clock_(clock),
      options_(options),
      vocab_size_(std::min(runner.vocab_size(), tokenizer_->vocab_size())),
      mtp_(uses_layer(runner, options, draft_runner) ? std::make_unique<MtpDrafter>(runner, clock)
                                                     : nullptr),
      pool_(runner.limits().blocks),
      spill_(open_spill(options.spill, runner)),
      cache_(pool_, runner.limits().block_tokens, spill_.get(),
             /*tokens_ahead=*/mtp_ ? 1 : 0),
      scheduler_(pool_, cache_, scheduler_limits(runner.limits(), options)),
      pace_(options.itl_target_ms, runner.limits().tokens),
      draft_model_(draft_runner == nullptr ? nullptr
                                           : std::make_unique<DraftModel>(*draft_runner, clock)),
      inputs_(blocks_per_sequence(runner.limits())) {
  RIDGE_ASSERT(pool_.blocks_total() >= blocks_per_sequence(runner.limits()));
  RIDGE_ASSERT(runner.limits().outputs >= runner.limits().sequences);
}

StepLoop::~StepLoop() { cancel_all(); }

void StepLoop::add(RequestId id, Request request, RequestListener listener,
                   Clock::TimePoint submitted) {
  ActiveRequest* active = nullptr;
  try {
    std::unique_ptr<ActiveRequest>& place = requests_[id];
    place = std::make_unique<ActiveRequest>();
    active = place.get();
  } catch (const std::bad_alloc& error) {
    requests_.erase(id);
    ++totals_.finished_total;
    tell(listener.on_finish, Finish{.error = as_error(error)});
    return;
  }
  active->id = id;
  active->request = std::move(request);
  active->listener = std::move(listener);
  active->submitted = submitted;
  if (active->request.trace && !active->request.submitted) {
    active->request.trace->add({.kind = TraceEvent::Kind::queued, .at = submitted});
  }
  if (active->request.deadline) active->deadline = submitted + *active->request.deadline;
  try {
    make_choices(*active);
    // The others follow when the prompt is computed, and share its blocks.
    scheduler_.add(active->choices.front()->sequence);
  } catch (const std::exception& error) {
    end_request(*active, FinishReason::failed, as_error(error));
    release_ended();
  }
}

void StepLoop::make_choices(ActiveRequest& active) {
  const Request& request = active.request;
  const int prompt_tokens = static_cast<int>(request.prompt_tokens.size());
  const int room_tokens = runner_.limits().context_tokens - prompt_tokens;
  active.end_tokens = prompt_tokens + std::min(request.max_tokens, room_tokens);
  // Choices draw different tokens from one seed, also from one that is not the user's.
  sampling::SamplingParams params = request.sampling;
  if (!params.seed) params.seed = sampling::fresh_seed();
  const SequenceOwner owner = {.priority = request.priority,
                               .group = request.group,
                               .weight = request.group_weight,
                               .deadline = active.deadline,
                               .cache_root = cache_root(request, mtp_ != nullptr)};
  for (int number = 0; number < request.choices; ++number) {
    Sequence sequence(SequenceId{next_sequence_++}, owner, request.prompt_tokens,
                      kvcache::BlockTable(pool_, runner_.limits().block_tokens));
    sequence.adapter = request.adapter;
    sequence.outputs_hidden = request.embedding.has_value();
    sequence.wants_all_outputs =
        number == 0 && (request.prompt_logprobs >= 0 || request.embedding == Pooling::mean);
    active.choices.push_back(std::make_unique<Choice>(
        active, number, std::move(sequence),
        sampling::Sampler(params, request.prompt_tokens, static_cast<uint32_t>(number)),
        Answer(request, number, tokenizer_)));
    Choice& choice = *active.choices.back();
    choices_[choice.sequence.id] = &choice;
  }
}

void StepLoop::cancel(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  end_request(*found->second, FinishReason::cancelled, std::nullopt);
  release_ended();
}

void StepLoop::end_thinking(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  for (const auto& choice : found->second->choices) choice->answer.end_thinking();
}

void StepLoop::cancel_all() {
  while (!requests_.empty()) cancel(requests_.begin()->first);
}

void StepLoop::step() {
  end_overdue();
  Batch batch;
  try {
    seat_choices();
    const Clock::TimePoint guessing = clock_.now();
    const int rows = guess();
    const double guessing_ms = milliseconds(clock_.now() - guessing);
    batch = scheduler_.schedule(pace_.prompt_tokens(cost_, rows, guessing_ms));
    plans_failed_ = 0;
    if (batch.empty()) {
      wait_for_masks();
      return;
    }
    start_masks(batch);
    start_clocks(batch);
    trace_places();
    const Clock::TimePoint start = clock_.now();
    run_hidden(batch);
    const std::span<const float> logits = run(batch);
    trace_prefills(batch, start);
    await_masks(batch);
    scheduler_.complete(batch);
    take_logits(batch, logits);
    if (mtp_) follow(batch);
    end_embeddings(batch);
  } catch (const std::exception& error) {
    if (batch.empty()) {
      fail_to_plan(as_error(error));
    } else {
      fail(batch, as_error(error));
    }
  }
  release_ended();
  ++totals_.steps_total;
}

void StepLoop::end_overdue() {
  const Clock::TimePoint now = clock_.now();
  for (auto next = requests_.begin(); next != requests_.end();) {
    ActiveRequest& request = *next++->second;
    if (!request.deadline || now < *request.deadline) continue;
    end_request(request, FinishReason::failed,
                Error(ErrorCode::timed_out,
                      fmt::format("the request's deadline passed after {:.0f} ms, with {} tokens "
                                  "generated",
                                  milliseconds(now - request.submitted),
                                  request.choices.front()->answer.tokens())));
  }
  release_ended();
}

// Rows of those that decode, with guesses. A failure costs the guesses of one step.
int StepLoop::guess() {
  try {
    return propose_drafts();
  } catch (const std::exception& error) {
    log::error("guesses failed: {}", error.what());
    for (auto& [id, choice] : choices_) choice->sequence.draft.clear();
    return scheduler_.decoding();
  }
}

int StepLoop::propose_drafts() {
  const RunnerLimits& limits = runner_.limits();
  int rows_left = limits.outputs - limits.scoring_outputs - limits.sequences;  // for guesses
  if (!options_.speculation || rows_left <= 0) return scheduler_.decoding();
  const int sequences = scheduler_.decoding();
  const bool is_busy = scheduler_.has_foreground();
  int rows = sequences;
  double expected = sequences;  // tokens that the step gives, as far as is planned
  const auto expect = [&](int guesses, double rate) {
    rows += guesses;
    rows_left -= guesses;
    expected += expected_tokens(rate, guesses) - 1;
  };
  const double most_ms = pace_.most_ms(cost_, sequences, scheduler_.has_prompts());
  std::vector<DraftModel::Job> jobs;
  std::vector<Choice*> guessed_by_model;
  std::vector<MtpDrafter::Job> layer_jobs;
  for (auto& [id, choice] : choices_) {
    Sequence& sequence = choice->sequence;
    sequence.draft.clear();
    if (sequence.state != Sequence::State::running || sequence.pending_tokens() != 1) continue;
    if (is_busy && sequence.owner.is_background()) continue;
    if (!choice->owner.request.speculation) continue;
    // Its mask is being computed, or has come too late: it goes on by one token.
    if (choice->mask) continue;
    // The last token of the answer needs no guess: it is sampled.
    const int rest = choice->owner.end_tokens - static_cast<int>(sequence.tokens.size()) - 1;
    const int room = std::min(rest, rows_left);
    const int most = choose_drafts(cost_, choice->acceptance.rate(), std::min(most_drafts, room),
                                   rows, expected - 1, {.most_ms = most_ms});
    if (most > 0) take_draft(*choice, choice->drafter.propose(sequence.tokens, most).tokens);
    choice->is_guessed_by_model = false;
    if (sequence.draft.empty()) choice->acceptance.fade();
    expect(static_cast<int>(sequence.draft.size()), choice->acceptance.rate());
    if (sequence.draft.empty() && draft_model_ != nullptr) {
      const int unread = draft_model_->unread(id, sequence.tokens.size());
      const GuessCost guess = {.guess_ms = draft_model_->guess_ms(),
                               .read_ms = unread * draft_model_->token_ms(),
                               .answer_tokens = static_cast<double>(rest + 1),
                               .most_ms = most_ms};
      const int guesses =
          choose_drafts(cost_, choice->model_acceptance.rate(), std::min(most_model_drafts, room),
                        rows, expected - 1, guess);
      choice->is_guessed_by_model = guesses > 0;
      if (guesses == 0) choice->model_acceptance.fade();
      if (guesses > 0) jobs.push_back({id, sequence.tokens, guesses, {}});
      if (guesses > 0) guessed_by_model.push_back(choice);
    }
    if (sequence.draft.empty() && mtp_ != nullptr &&
        mtp_->follows(id, static_cast<int>(sequence.tokens.size()))) {
      const int guesses =
          choose_drafts(cost_, choice->model_acceptance.rate(), std::min(most_layer_drafts, room),
                        rows, expected - 1, {.guess_ms = mtp_->guess_ms(), .most_ms = most_ms});
      choice->is_guessed_by_model = guesses > 0;
      if (guesses == 0) choice->model_acceptance.fade();
      if (guesses > 0) {
        guessed_by_model.push_back(choice);
        layer_jobs.push_back(
            {id, &sequence.blocks, static_cast<int>(sequence.tokens.size()), guesses, {}});
      }
      expect(guesses, choice->model_acceptance.rate());
    }
  }
  if (mtp_) propose_by_layer(guessed_by_model, layer_jobs);
  if (jobs.empty()) return rows;
  const int most = std::ranges::max(jobs, {}, &DraftModel::Job::most).most;
  const int read_tokens =
      pace_.draft_tokens(cost_, rows, most * draft_model_->guess_ms(), draft_model_->token_ms());
  try {
    draft_model_->propose(jobs, read_tokens);
  } catch (const std::exception& error) {
    log::error("the draft model failed: {}", error.what());
    return rows;
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    take_models_draft(*guessed_by_model[i], jobs[i].draft);
    rows += static_cast<int>(guessed_by_model[i]->sequence.draft.size());
  }
  return rows;
}

void StepLoop::propose_by_layer(std::span<Choice* const> choices, std::span<MtpDrafter::Job> jobs) {
  for (size_t i = 0; i < choices.size(); ++i) {
    // Each guess but the last has a place in the layer's cache, from the last token's on.
    const int tokens = jobs[i].tokens + jobs[i].most - 2;
    if (!scheduler_.reserve_ahead(choices[i]->sequence, tokens)) jobs[i].most = 1;
  }
  try {
    mtp_->propose(jobs);
  } catch (const std::exception& error) {
    log::error("the layer for multi-token prediction failed: {}", error.what());
    return;
  }
  for (size_t i = 0; i < choices.size(); ++i) take_models_draft(*choices[i], jobs[i].draft);
}

// Guesses of which none can be right cost as much as those that are wrong.
void StepLoop::take_models_draft(Choice& choice, std::span<const int32_t> draft) {
  take_draft(choice, draft);
  if (!draft.empty() && choice.sequence.draft.empty()) {
    choice.model_acceptance.observe(static_cast<int>(draft.size()), 0);
  }
}

void StepLoop::take_draft(Choice& choice, std::span<const int32_t> draft) {
  // A vocabulary may have rows of logits that no token has.
  const auto known =
      std::ranges::find_if(draft, [&](int32_t token) { return token >= vocab_size_; });
  draft = draft.first(static_cast<size_t>(known - draft.begin()));
  const int admissible = choice.answer.admissible(draft);
  choice.sequence.draft.assign(draft.begin(), draft.begin() + admissible);
}

void StepLoop::start_clocks(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    ActiveRequest& request = choices_.at(chunk.sequence->id)->owner;
    if (request.first_scheduled) continue;
    request.first_scheduled = clock_.now();
    totals_.queue.observe(seconds(*request.first_scheduled - request.submitted));
    totals_.queried_tokens_total += request.request.prompt_tokens.size();
    totals_.cached_tokens_total += static_cast<uint64_t>(chunk.sequence->cached_tokens);
  }
}

void StepLoop::forget(Choice& choice) {
  if (mtp_) {
    leaving_.push_back(&choice.sequence);
  } else {
    scheduler_.remove(choice.sequence);
  }
  if (draft_model_) draft_model_->forget(choice.sequence.id);
  choices_.erase(choice.sequence.id);
}

void StepLoop::release_ended() {
  for (Sequence* sequence : leaving_) {
    mtp_->forget(sequence->id);
    scheduler_.remove(*sequence);
  }
  leaving_.clear();
  forked_.clear();
  ended_.clear();
}

void StepLoop::end_choice(Choice& choice, FinishReason reason) {
  ActiveRequest& request = choice.owner;
  // A cancelled or failed answer shows no text that may be half of a stop sequence.
  if (is_answer(reason)) reason = choice.answer.finish(reason);
  choice.reason = reason;
  trace_end(choice);
  forget(choice);
  if (auto delta = choice.answer.take_rest()) tell(request.listener.on_delta, std::move(*delta));
  tell(request.listener.on_choice_finish, choice.number, reason);
  const bool all_ended =
      std::ranges::all_of(request.choices, [](const auto& c) { return c->reason.has_value(); });
  if (all_ended) settle(request, std::nullopt);
}

void StepLoop::end_request(ActiveRequest& request, FinishReason reason,
                           std::optional<Error> error) {
  for (const auto& choice : request.choices) {
    if (choice->reason) continue;
    choice->reason = reason;
    trace_end(*choice);
    forget(*choice);
    if (auto delta = choice->answer.take_rest()) tell(request.listener.on_delta, std::move(*delta));
    tell(request.listener.on_choice_finish, choice->number, reason);
  }
  settle(request, std::move(error));
}

void StepLoop::settle(ActiveRequest& request, std::optional<Error> error) {
  Finish finish;
  finish.error = std::move(error);
  const Clock::TimePoint now = clock_.now();
  Usage& usage = finish.usage;
  if (request.first_scheduled) {
    usage.prompt_tokens = static_cast<int>(request.request.prompt_tokens.size());
  }
  usage.cached_tokens =
      std::max(0, request.choices.empty() ? 0 : request.choices.front()->sequence.cached_tokens);
  for (const auto& choice : request.choices) {
    finish.reasons.push_back(*choice->reason);
    ++totals_.choices_by_reason[static_cast<size_t>(*choice->reason)];
    usage.completion_tokens += choice->answer.tokens();
    usage.reasoning_tokens += choice->answer.reasoning_tokens();
  }
  usage.queue_ms = milliseconds(request.first_scheduled.value_or(now) - request.submitted);
  usage.ttft_ms = request.first_token ? milliseconds(*request.first_token - request.submitted) : 0;
  usage.duration_ms = milliseconds(now - request.submitted);
  totals_.end_to_end.observe(seconds(now - request.submitted));
  ++totals_.finished_total;
  const auto node = requests_.find(request.id);
  RIDGE_ASSERT(node != requests_.end());
  ended_.push_back(std::move(node->second));
  requests_.erase(node);
  tell(request.listener.on_finish, finish);
}

void StepLoop::fail(const Batch& batch, const Error& error) {
  // What the layer for multi-token prediction may not have followed would spoil others' guesses.
  if (mtp_) keep_unshared(batch);
  log::error("a step of {} sequences failed: {}", batch.size(), error.message());
  for (const Chunk& chunk : batch) {
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end()) continue;
    end_request(found->second->owner, FinishReason::failed, error);
  }
}

// Nobody is known to be the cause. Want of memory may pass; what does not would be tried for ever.
void StepLoop::fail_to_plan(const Error& error) {
  log::error("a step could not be planned: {}", error.message());
  if (++plans_failed_ < most_failed_plans) return;
  while (!requests_.empty()) {
    end_request(*requests_.begin()->second, FinishReason::failed, error);
  }
  plans_failed_ = 0;
}

EngineStats StepLoop::stats() const {
  EngineStats stats = totals_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  for (const auto& [id, request] : requests_) {
    stats.foreground += is_foreground(request->request);
    AdapterRequests* const adapter = stats.of_adapter(request->request);
    if (adapter != nullptr) ++(request->first_scheduled ? adapter->running : adapter->waiting);
  }
  stats.block_tokens = runner_.limits().block_tokens;
  stats.blocks_total = pool_.blocks_total();
  stats.blocks_free = pool_.blocks_available();
  stats.blocks_cached = cache_.blocks();
  stats.blocks_spilled = cache_.blocks_spilled();
  stats.blocks_spilled_total = cache_.spills_total();
  stats.blocks_restored_total = cache_.restores_total();
  stats.preemptions_total = scheduler_.preemptions_total();
  return stats;
}

WaitingCounts StepLoop::never_scheduled() const {
  WaitingCounts counts;
  for (const auto& [id, request] : requests_) {
    if (!request->first_scheduled) ++counts[request->request.group];
  }
  return counts;
}

}  // namespace ridge::engine
