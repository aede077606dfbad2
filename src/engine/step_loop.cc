#include "engine/step_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "engine/speculation_gate.h"
#include "engine/suffix_drafter.h"
#include "sampling/logits.h"
#include "sampling/random.h"
#include "text/tokenizer.h"

namespace ridge::engine {

struct StepLoop::Choice {
  Choice(ActiveRequest& owner, int number, Sequence sequence, sampling::Sampler sampler,
         Answer answer)
      : owner(owner),
        number(number),
        sequence(std::move(sequence)),
        sampler(std::move(sampler)),
        answer(std::move(answer)) {}

  ActiveRequest& owner;
  const int number;
  Sequence sequence;
  sampling::Sampler sampler;
  Answer answer;
  std::optional<Clock::TimePoint> last_tokens;  // when it got some
  SuffixDrafter drafter;
  Acceptance acceptance;        // of the suffix's guesses
  Acceptance model_acceptance;  // of the draft model's
  bool is_guessed_by_model = false;
  std::optional<FinishReason> reason;  // once it has ended
};

struct StepLoop::ActiveRequest {
  RequestId id;
  Request request;
  RequestListener listener;
  int end_tokens = 0;  // of a sequence: prompt and as many more as max_tokens and the context allow
  Clock::TimePoint submitted;
  std::optional<Clock::TimePoint> deadline;
  std::vector<TokenInfo> prompt_logprobs;  // those that were computed
  std::vector<float> embedding;            // [hidden], summed over the first tokens
  int embedded_tokens = 0;                 // so many
  std::optional<Clock::TimePoint> first_scheduled;
  std::optional<Clock::TimePoint> first_token;
  std::vector<std::unique_ptr<Choice>> choices;
};

namespace {

double milliseconds(Clock::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double seconds(Clock::Duration duration) { return std::chrono::duration<double>(duration).count(); }

// A listener must not throw; one that does loses what it was told, and nobody else is hurt.
template <typename Callback, typename... Args>
void tell(const Callback& callback, Args&&... args) {
  if (!callback) return;
  try {
    callback(std::forward<Args>(args)...);
  } catch (const std::exception& error) {
    log::error("a request's listener threw: {}", error.what());
  }
}

Error as_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) {
    return Error(ErrorCode::out_of_memory, "the server found no memory for it");
  }
  return Error(ErrorCode::internal, exception.what());
}

SchedulerLimits scheduler_limits(const RunnerLimits& limits, const StepLoopOptions& options) {
  return {.step_tokens = limits.tokens,
          .max_sequences = limits.sequences,
          .block_tokens = limits.block_tokens,
          .outputs = limits.outputs,
          .shares_prefixes = options.prefix_cache};
}

// Guesses that one sequence may have in a step.
constexpr int most_drafts = 15;
// Each of a model's costs a pass of its own.
constexpr int most_model_drafts = 8;

}  // namespace

StepLoop::StepLoop(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer,
                   const Clock& clock, const StepLoopOptions& options, StepRunner* draft_runner)
    : runner_(runner),
      tokenizer_(std::move(tokenizer)),
      clock_(clock),
      options_(options),
      vocab_size_(std::min(runner.vocab_size(), tokenizer_->vocab_size())),
      pool_(runner.limits().blocks),
      spill_(open_spill(options.spill, runner)),
      cache_(pool_, runner.limits().block_tokens, spill_.get()),
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
  if (active->request.deadline) active->deadline = submitted + *active->request.deadline;
  try {
    make_choices(*active);
    // The others follow when the prompt is computed, and share its blocks.
    scheduler_.add(active->choices.front()->sequence);
  } catch (const std::exception& error) {
    end_request(*active, FinishReason::failed, as_error(error));
    ended_.clear();
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
                               .cache_root = request.group};
  for (int number = 0; number < request.choices; ++number) {
    Sequence sequence(SequenceId{next_sequence_++}, owner, request.prompt_tokens,
                      kvcache::BlockTable(pool_, runner_.limits().block_tokens));
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
  ended_.clear();
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
    propose_drafts();
    batch = scheduler_.schedule(pace_.prompt_tokens(cost_, scheduler_.decoding()));
    if (batch.empty()) return;
    start_clocks(batch);
    run_hidden(batch);
    const std::span<const float> logits = run(batch);
    scheduler_.complete(batch);
    take_logits(batch, logits);
    end_embeddings(batch);
  } catch (const std::exception& error) {
    fail(batch, as_error(error));
  }
  ended_.clear();
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
  ended_.clear();
}

void StepLoop::propose_drafts() {
  if (!options_.speculation || runner_.limits().outputs <= runner_.limits().sequences) return;
  const int sequences = scheduler_.decoding();
  int rows = sequences;
  std::vector<DraftModel::Job> jobs;
  std::vector<Choice*> guessed_by_model;
  for (auto& [id, choice] : choices_) {
    Sequence& sequence = choice->sequence;
    sequence.draft.clear();
    if (sequence.state != Sequence::State::running || sequence.pending_tokens() != 1) continue;
    if (!choice->owner.request.speculation) continue;
    // The last token of the answer needs no guess: it is sampled.
    const int room = choice->owner.end_tokens - static_cast<int>(sequence.tokens.size()) - 1;
    const int most = choose_drafts(cost_, choice->acceptance.rate(), std::min(most_drafts, room),
                                   rows, sequences);
    if (most > 0) take_draft(*choice, choice->drafter.propose(sequence.tokens, most).tokens);
    choice->is_guessed_by_model = false;
    if (sequence.draft.empty()) choice->acceptance.fade();
    if (sequence.draft.empty() && draft_model_ != nullptr) {
      const int guesses =
          choose_drafts(cost_, choice->model_acceptance.rate(), std::min(most_model_drafts, room),
                        rows, sequences, draft_model_->guess_ms());
      choice->is_guessed_by_model = guesses > 0;
      if (guesses == 0) choice->model_acceptance.fade();
      if (guesses > 0) jobs.push_back({id, sequence.tokens, guesses, {}});
      if (guesses > 0) guessed_by_model.push_back(choice);
    }
    rows += static_cast<int>(sequence.draft.size());
  }
  if (jobs.empty()) return;
  try {
    draft_model_->propose(jobs);
  } catch (const std::exception& error) {
    log::error("the draft model failed: {}", error.what());
    return;
  }
  for (size_t i = 0; i < jobs.size(); ++i) take_draft(*guessed_by_model[i], jobs[i].draft);
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

// The sequences of embeddings, by a pass of their own. Where it fails, they alone do.
void StepLoop::run_hidden(Batch& batch) {
  const auto rest = std::ranges::stable_partition(
      batch, [](const Chunk& chunk) { return !chunk.sequence->outputs_hidden; });
  if (rest.empty()) return;
  inputs_.clear();
  for (const Chunk& chunk : rest) {
    inputs_.add(tokens_of(chunk), chunk.first, chunk.sequence->blocks, chunk.outputs);
  }
  try {
    const Clock::TimePoint start = clock_.now();
    std::span<const float> hidden = runner_.run_hidden(inputs_);
    cost_.observe(0, inputs_.tokens(), milliseconds(clock_.now() - start));
    for (const Chunk& chunk : rest) {
      add_hidden(choices_.at(chunk.sequence->id)->owner, chunk, hidden);
    }
  } catch (const std::exception& error) {
    fail(Batch(rest.begin(), rest.end()), as_error(error));
    batch.erase(rest.begin(), rest.end());
  }
}

// Takes the chunk's rows off the front of `hidden`.
void StepLoop::add_hidden(ActiveRequest& request, const Chunk& chunk,
                          std::span<const float>& hidden) {
  const auto width = static_cast<size_t>(runner_.hidden_size());
  request.embedding.resize(width);
  for (int i = 0; i < chunk.outputs; ++i) {
    const auto values = hidden.first(width);
    hidden = hidden.subspan(width);
    // What a preempted sequence computes again was added before.
    if (request.request.embedding == Pooling::mean && chunk.first + i < request.embedded_tokens) {
      continue;
    }
    ++request.embedded_tokens;
    for (size_t d = 0; d < width; ++d) request.embedding[d] += values[d];
  }
}

void StepLoop::end_embeddings(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    if (!chunk.sequence->outputs_hidden || !chunk.reaches_end) continue;
    Choice& choice = *choices_.at(chunk.sequence->id);
    ActiveRequest& request = choice.owner;
    totals_.prompt_tokens_total += request.request.prompt_tokens.size();
    for (float& value : request.embedding) value /= static_cast<float>(request.embedded_tokens);
    const bool is_finite =
        std::ranges::all_of(request.embedding, [](float value) { return std::isfinite(value); });
    if (!is_finite) {
      end_request(request, FinishReason::failed,
                  Error(ErrorCode::internal, "the model's hidden states are not finite"));
      continue;
    }
    tell(request.listener.on_embedding, std::move(request.embedding));
    end_choice(choice, FinishReason::stop);
  }
}

std::span<const int32_t> StepLoop::tokens_of(const Chunk& chunk) const {
  return std::span(chunk.sequence->tokens)
      .subspan(static_cast<size_t>(chunk.first), static_cast<size_t>(chunk.count - chunk.drafts));
}

std::span<const float> StepLoop::run(const Batch& batch) {
  inputs_.clear();
  int rows = 0;
  int prompt_tokens = 0;
  std::vector<int32_t> guessed;
  for (const Chunk& chunk : batch) {
    const Sequence& sequence = *chunk.sequence;
    if (sequence.outputs_hidden) continue;
    (sequence.pending_tokens() == 1 ? rows : prompt_tokens) += chunk.count;
    std::span<const int32_t> tokens = tokens_of(chunk);
    if (chunk.drafts > 0) {
      guessed.assign(tokens.begin(), tokens.end());
      guessed.insert(guessed.end(), sequence.draft.begin(), sequence.draft.end());
      tokens = guessed;
    }
    inputs_.add(tokens, chunk.first, sequence.blocks, chunk.outputs);
  }
  if (inputs_.tokens() == 0) return {};
  const Clock::TimePoint start = clock_.now();
  const std::span<const float> logits = runner_.run(inputs_);
  cost_.observe(rows, prompt_tokens, milliseconds(clock_.now() - start));
  return logits;
}

std::span<const float> StepLoop::row(std::span<const float> logits, int index) const {
  const auto width = static_cast<size_t>(runner_.vocab_size());
  return logits.subspan(width * static_cast<size_t>(index), width)
      .first(static_cast<size_t>(vocab_size_));
}

void StepLoop::take_logits(const Batch& batch, std::span<const float> logits) {
  const auto width = static_cast<size_t>(runner_.vocab_size());
  for (const Chunk& chunk : batch) {
    if (chunk.outputs == 0 || chunk.sequence->outputs_hidden) continue;
    const auto rows = logits.first(width * static_cast<size_t>(chunk.outputs));
    logits = logits.subspan(rows.size());
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end()) continue;  // its request failed at an earlier row
    Choice& choice = *found->second;
    try {
      take_tokens(choice, chunk, rows);
    } catch (const std::exception& error) {
      end_request(choice.owner, FinishReason::failed, as_error(error));
    }
  }
}

void StepLoop::take_tokens(Choice& choice, const Chunk& chunk, std::span<const float> logits) {
  ActiveRequest& request = choice.owner;
  if (chunk.sequence->wants_all_outputs) take_prompt_logprobs(request, chunk, logits);
  if (!chunk.reaches_end) return;
  const int first = chunk.outputs - 1 - chunk.drafts;
  // Before this choice can end and free the prompt's blocks.
  if (choice.number == 0 && choice.answer.tokens() == 0) end_prompt(request, row(logits, first));
  if (choice.reason) return;
  const std::vector<int32_t> draft = std::move(choice.sequence.draft);
  const Clock::TimePoint now = clock_.now();
  if (choice.last_tokens) totals_.inter_token.observe(seconds(now - *choice.last_tokens));
  choice.last_tokens = now;
  int accepted = 0;
  // Each row's logits count where the guess before it was what the sampler picks: the answer is
  // then the one that it would be without guesses, token by token.
  for (int i = 0; i <= chunk.drafts; ++i) {
    const auto guess =
        i < chunk.drafts ? std::optional(draft[static_cast<size_t>(i)]) : std::nullopt;
    if (!take_token(choice, row(logits, first + i), guess)) break;
    accepted += guess.has_value();
  }
  if (chunk.drafts > 0) {
    (choice.is_guessed_by_model ? choice.model_acceptance : choice.acceptance)
        .observe(chunk.drafts, accepted);
    totals_.draft_tokens_total += static_cast<uint64_t>(chunk.drafts);
    totals_.accepted_tokens_total += static_cast<uint64_t>(accepted);
  }
  if (choice.reason) return;
  if (auto delta = choice.answer.take_delta()) tell(request.listener.on_delta, std::move(*delta));
}

// Whether the next row is that of what was picked: the guess was right, and the answer goes on.
bool StepLoop::take_token(Choice& choice, std::span<const float> logits,
                          std::optional<int32_t> guess) {
  ActiveRequest& request = choice.owner;
  const sampling::Pick pick = choice.sampler.pick(logits, choice.answer.constraints(), workspace_);
  if (!request.first_token) {
    request.first_token = clock_.now();
    totals_.first_token.observe(seconds(*request.first_token - request.submitted));
  }
  choice.sampler.accept(pick.token);
  const bool is_right = guess == pick.token;
  if (is_right) {
    scheduler_.accept_draft(choice.sequence, pick.token);
  } else {
    choice.sequence.tokens.push_back(pick.token);
  }
  ++totals_.generated_tokens_total;
  const std::optional<FinishReason> reason = choice.answer.push(pick);
  if (reason) {
    end_choice(choice, *reason);
  } else if (static_cast<int>(choice.sequence.tokens.size()) >= request.end_tokens) {
    end_choice(choice, FinishReason::length);
  }
  return is_right && !choice.reason;
}

void StepLoop::take_prompt_logprobs(ActiveRequest& request, const Chunk& chunk,
                                    std::span<const float> logits) {
  const std::vector<int32_t>& prompt = request.request.prompt_tokens;
  for (int i = 0; i < chunk.count; ++i) {
    const auto next = static_cast<size_t>(chunk.first + i) + 1;
    // What a preempted sequence computes again was told before.
    if (next >= prompt.size() || next - 1 < request.prompt_logprobs.size()) continue;
    const auto values = row(logits, i);
    sampling::check_finite(values);
    request.prompt_logprobs.push_back(token_info(
        sampling::logprobs_of(values, prompt[next], request.request.prompt_logprobs), *tokenizer_));
  }
}

// The leader's prompt is computed: what follows from that for the request.
void StepLoop::end_prompt(ActiveRequest& request, std::span<const float> logits) {
  totals_.prompt_tokens_total += request.request.prompt_tokens.size();
  if (request.request.prompt_logprobs >= 0) {
    request.choices.front()->sequence.wants_all_outputs = false;
    tell(request.listener.on_prompt, std::move(request.prompt_logprobs));
  }
  for (size_t number = 1; number < request.choices.size(); ++number) {
    if (request.end_tokens > static_cast<int>(request.request.prompt_tokens.size())) {
      add_sibling(request, *request.choices[number], logits);
    } else {
      end_choice(*request.choices[number], FinishReason::length);
    }
  }
  if (request.end_tokens == static_cast<int>(request.request.prompt_tokens.size())) {
    end_choice(*request.choices.front(), FinishReason::length);
  }
}

// The logits after the prompt give every choice its first token.
void StepLoop::add_sibling(ActiveRequest& request, Choice& choice, std::span<const float> logits) {
  take_token(choice, logits, std::nullopt);
  if (choice.reason) return;
  if (auto delta = choice.answer.take_delta()) tell(request.listener.on_delta, std::move(*delta));
  const auto copy = scheduler_.fork(request.choices.front()->sequence, choice.sequence);
  if (!copy) return;
  std::vector<std::byte> content(runner_.block_bytes());
  runner_.export_block(copy->from, content);
  runner_.import_block(copy->to, content);
}

void StepLoop::forget(Choice& choice) {
  scheduler_.remove(choice.sequence);
  if (draft_model_) draft_model_->forget(choice.sequence.id);
  choices_.erase(choice.sequence.id);
}

void StepLoop::end_choice(Choice& choice, FinishReason reason) {
  ActiveRequest& request = choice.owner;
  // A cancelled or failed answer shows no text that may be half of a stop sequence.
  if (is_answer(reason)) reason = choice.answer.finish(reason);
  choice.reason = reason;
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
  usage.prompt_tokens = static_cast<int>(request.request.prompt_tokens.size());
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
  log::error("a step of {} sequences failed: {}", batch.size(), error.message());
  for (const Chunk& chunk : batch) {
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end()) continue;
    end_request(found->second->owner, FinishReason::failed, error);
  }
}

EngineStats StepLoop::stats() const {
  EngineStats stats = totals_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.blocks_total = pool_.blocks_total();
  stats.blocks_free = pool_.blocks_available();
  stats.blocks_cached = cache_.blocks();
  stats.blocks_spilled = cache_.blocks_spilled();
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
