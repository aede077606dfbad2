// What a step's forward passes give its requests: tokens, logprobs of prompts, embeddings.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/active_request.h"
#include "engine/step_loop.h"
#include "sampling/logits.h"
#include "text/tokenizer.h"

namespace ridge::engine {

// The sequences of embeddings, by a pass of their own. Where it fails, they alone do.
void StepLoop::run_hidden(Batch& batch) {
  const auto rest = std::ranges::stable_partition(
      batch, [](const Chunk& chunk) { return !chunk.sequence->outputs_hidden; });
  if (rest.empty()) return;
  inputs_.clear();
  for (const Chunk& chunk : rest) {
    inputs_.add(tokens_of(chunk), chunk.first, chunk.sequence->blocks, chunk.outputs,
                chunk.sequence->adapter);
  }
  try {
    const Clock::TimePoint start = clock_.now();
    std::span<const float> hidden = runner_.run_hidden(inputs_);
    totals_.step_tokens.observe(inputs_.tokens());
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
  ran_.reset();
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
    inputs_.add(tokens, chunk.first, sequence.blocks, chunk.outputs, sequence.adapter);
  }
  if (inputs_.tokens() == 0) return {};
  const Clock::TimePoint start = clock_.now();
  const std::span<const float> logits = runner_.run(inputs_);
  totals_.step_tokens.observe(inputs_.tokens());
  const double ms = milliseconds(clock_.now() - start);
  if (mtp_) {
    ran_ = {rows, prompt_tokens, ms};
  } else {
    cost_.observe(rows, prompt_tokens, ms);
  }
  return logits;
}

// The positions that the step computed, and whose next tokens are picked.
std::vector<MtpDrafter::Part> StepLoop::parts_of(const Batch& batch) const {
  std::vector<MtpDrafter::Part> parts;
  const auto add = [&](const Sequence& sequence, int first, int first_row) {
    const int last =
        std::min(sequence.computed_tokens, static_cast<int>(sequence.tokens.size()) - 1);
    if (last <= first) return;
    const auto following =
        std::span(sequence.tokens)
            .subspan(static_cast<size_t>(first) + 1, static_cast<size_t>(last - first));
    parts.push_back({sequence.id, &sequence.blocks, first, following, first_row});
  };
  int row = 0;
  for (const Chunk& chunk : batch) {
    if (chunk.sequence->outputs_hidden) continue;
    add(*chunk.sequence, chunk.first, row);
    for (const auto& [leader, sibling] : forked_) {
      if (leader != chunk.sequence) continue;
      // What it does not share with the leader: its last block, as far as that is of this step.
      const int block_tokens = runner_.limits().block_tokens;
      const int own = (sibling->computed_tokens - 1) / block_tokens * block_tokens;
      const int first = std::max(chunk.first, own);
      add(*sibling, first, row + first - chunk.first);
    }
    row += chunk.count;
  }
  return parts;
}

// Those that have ended are followed as well: their blocks may serve others.
void StepLoop::follow(const Batch& batch) {
  const Clock::TimePoint start = clock_.now();
  try {
    mtp_->follow(parts_of(batch));
  } catch (const std::exception& error) {
    // Without the layer's entries the blocks would spoil others' guesses.
    keep_unshared(batch);
    log::error("the layer for multi-token prediction failed: {}", error.what());
  }
  if (ran_) {
    cost_.observe(ran_->rows, ran_->prompt_tokens, ran_->ms + milliseconds(clock_.now() - start));
  }
  scheduler_.remember(batch);
}

void StepLoop::keep_unshared(const Batch& batch) {
  for (const Chunk& chunk : batch) chunk.sequence->is_shareable = false;
  for (const auto& [leader, sibling] : forked_) sibling->is_shareable = false;
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
  choice.take_mask();
  // Before this choice can end and free the prompt's blocks.
  if (choice.number == 0 && choice.answer.tokens() == 0) end_prompt(request, row(logits, first));
  if (choice.reason) return;
  const std::vector<int32_t> draft = std::move(choice.sequence.draft);
  const Clock::TimePoint now = clock_.now();
  if (choice.last_tokens) totals_.inter_token.observe(seconds(now - *choice.last_tokens));
  choice.last_tokens = now;
  if (request.request.trace) request.request.trace->count_drafts(chunk.drafts);
  int accepted = 0;
  // Each row's logits count where the guess before it was what the sampler picks: the answer is
  // then the one that it would be without guesses, token by token.
  for (int i = 0; i <= chunk.drafts; ++i) {
    const auto guess =
        i < chunk.drafts ? std::optional(draft[static_cast<size_t>(i)]) : std::nullopt;
    if (!take_token(choice, row(logits, first + i), guess)) break;
    accepted += guess.has_value();
    if (!await_mask_of_guess(choice)) {
      scheduler_.redo_accepted(choice.sequence);
      break;
    }
    choice.take_mask();
  }
  if (chunk.drafts > 0) {
    (choice.is_guessed_by_model ? choice.model_acceptance : choice.acceptance)
        .observe(chunk.drafts, accepted);
    ++totals_.drafts_total;
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
  trace_token(choice, is_right);
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
  choice.take_mask();
  take_token(choice, logits, std::nullopt);
  if (choice.reason) return;
  if (auto delta = choice.answer.take_delta()) tell(request.listener.on_delta, std::move(*delta));
  const Sequence& leader = request.choices.front()->sequence;
  // Its last block may be a full one, which nobody is to find before it is copied.
  choice.sequence.is_shareable = false;
  const auto copy = scheduler_.fork(leader, choice.sequence);
  if (copy) {
    std::vector<std::byte> content(runner_.block_bytes());
    runner_.export_block(copy->from, content);
    runner_.import_block(copy->to, content);
  }
  if (mtp_ && choice.sequence.state == Sequence::State::running) {
    forked_.emplace_back(&leader, &choice.sequence);
  }
  choice.sequence.is_shareable = leader.is_shareable;
}

}  // namespace ridge::engine
