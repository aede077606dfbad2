#include "engine/step_loop.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
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
  std::optional<FinishReason> reason;  // once it has ended
};

struct StepLoop::ActiveRequest {
  RequestId id;
  Request request;
  RequestListener listener;
  int end_tokens = 0;  // of a sequence: prompt and as many more as max_tokens and the context allow
  Clock::TimePoint submitted;
  std::optional<Clock::TimePoint> first_scheduled;
  std::optional<Clock::TimePoint> first_token;
  std::vector<std::unique_ptr<Choice>> choices;
};

namespace {

double milliseconds(Clock::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

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

SchedulerLimits scheduler_limits(const RunnerLimits& limits) {
  return {.step_tokens = limits.tokens,
          .max_sequences = limits.sequences,
          .block_tokens = limits.block_tokens};
}

}  // namespace

StepLoop::StepLoop(StepRunner& runner, std::shared_ptr<const text::Tokenizer> tokenizer,
                   const Clock& clock)
    : runner_(runner),
      tokenizer_(std::move(tokenizer)),
      clock_(clock),
      vocab_size_(std::min(runner.vocab_size(), tokenizer_->vocab_size())),
      pool_(runner.limits().blocks),
      scheduler_(pool_, scheduler_limits(runner.limits())),
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
  for (int number = 0; number < request.choices; ++number) {
    Sequence sequence(SequenceId{next_sequence_++}, request.priority, request.prompt_tokens,
                      kvcache::BlockTable(pool_, runner_.limits().block_tokens));
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

void StepLoop::cancel_all() {
  while (!requests_.empty()) cancel(requests_.begin()->first);
}

void StepLoop::step() {
  const Batch batch = scheduler_.schedule();
  if (batch.empty()) return;
  start_clocks(batch);
  try {
    const std::span<const float> logits = run(batch);
    scheduler_.complete(batch);
    take_tokens(batch, logits);
  } catch (const std::exception& error) {
    fail(batch, as_error(error));
  }
  ended_.clear();
  ++totals_.steps_total;
}

void StepLoop::start_clocks(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    ActiveRequest& request = choices_.at(chunk.sequence->id)->owner;
    if (!request.first_scheduled) request.first_scheduled = clock_.now();
  }
}

std::span<const float> StepLoop::run(const Batch& batch) {
  inputs_.clear();
  for (const Chunk& chunk : batch) {
    const Sequence& sequence = *chunk.sequence;
    const auto tokens =
        std::span(sequence.tokens)
            .subspan(static_cast<size_t>(chunk.first), static_cast<size_t>(chunk.count));
    inputs_.add(tokens, chunk.first, sequence.blocks,
                chunk.reaches_end ? LogitsOf::last : LogitsOf::none);
  }
  return runner_.run(inputs_);
}

void StepLoop::take_tokens(const Batch& batch, std::span<const float> logits) {
  const size_t width = static_cast<size_t>(runner_.vocab_size());
  size_t row = 0;
  for (const Chunk& chunk : batch) {
    if (!chunk.reaches_end) continue;
    const auto row_logits =
        logits.subspan(width * row++, width).first(static_cast<size_t>(vocab_size_));
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end()) continue;  // its request failed at an earlier row
    Choice& choice = *found->second;
    try {
      take_token(choice, row_logits);
    } catch (const Error& error) {
      end_request(choice.owner, FinishReason::failed, error);
    }
  }
}

void StepLoop::take_token(Choice& choice, std::span<const float> logits) {
  ActiveRequest& request = choice.owner;
  const sampling::Pick pick = choice.sampler.pick(logits, choice.answer.constraints(), workspace_);
  if (!request.first_token) request.first_token = clock_.now();
  // Before this choice can end and free the prompt's blocks.
  if (choice.number == 0 && choice.answer.tokens() == 0) add_siblings(request);
  choice.sampler.accept(pick.token);
  choice.sequence.tokens.push_back(pick.token);
  ++totals_.generated_tokens_total;
  const std::optional<FinishReason> reason = choice.answer.push(pick);
  if (reason) {
    end_choice(choice, *reason);
  } else if (static_cast<int>(choice.sequence.tokens.size()) >= request.end_tokens) {
    end_choice(choice, FinishReason::length);
  } else if (auto delta = choice.answer.take_delta()) {
    tell(request.listener.on_delta, std::move(*delta));
  }
}

void StepLoop::add_siblings(ActiveRequest& request) {
  totals_.prompt_tokens_total += request.request.prompt_tokens.size();
  const Sequence& leader = request.choices.front()->sequence;
  const int block_tokens = runner_.limits().block_tokens;
  // The last prompt token is computed again by each, for its logits;
  // so nobody writes a shared block.
  const int shared_blocks = (static_cast<int>(leader.tokens.size()) - 1) / block_tokens;
  for (size_t number = 1; number < request.choices.size(); ++number) {
    Sequence& sequence = request.choices[number]->sequence;
    sequence.blocks.share_prefix(leader.blocks, shared_blocks);
    sequence.computed_tokens = shared_blocks * block_tokens;
    scheduler_.add(sequence);
  }
}

void StepLoop::end_choice(Choice& choice, FinishReason reason) {
  ActiveRequest& request = choice.owner;
  choice.reason = reason;
  scheduler_.remove(choice.sequence);
  choices_.erase(choice.sequence.id);
  // A cancelled or failed answer shows no text that may be half of a stop sequence.
  if (reason == FinishReason::stop || reason == FinishReason::length) choice.answer.finish();
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
    scheduler_.remove(choice->sequence);
    choices_.erase(choice->sequence.id);
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
  for (const auto& choice : request.choices) {
    finish.reasons.push_back(*choice->reason);
    usage.completion_tokens += choice->answer.tokens();
    usage.reasoning_tokens += choice->answer.reasoning_tokens();
  }
  usage.queue_ms = milliseconds(request.first_scheduled.value_or(now) - request.submitted);
  usage.ttft_ms = request.first_token ? milliseconds(*request.first_token - request.submitted) : 0;
  usage.duration_ms = milliseconds(now - request.submitted);
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
  stats.blocks_free = pool_.blocks_free();
  return stats;
}

int StepLoop::never_scheduled() const {
  return static_cast<int>(
      std::ranges::count_if(requests_, [](const auto& r) { return !r.second->first_scheduled; }));
}

}  // namespace ridge::engine
