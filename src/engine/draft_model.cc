#include "engine/draft_model.h"

#include <algorithm>

#include "sampling/logits.h"

namespace ridge::engine {

DraftModel::DraftModel(StepRunner& runner, const Clock& clock)
    : runner_(runner),
      clock_(clock),
      pool_(runner.limits().blocks),
      inputs_(blocks_per_sequence(runner.limits())) {}

void DraftModel::propose(std::span<Job> jobs) {
  try {
    guess(jobs);
  } catch (...) {
    // What a failed pass left in the cache is not known.
    for (Job& job : jobs) {
      job.draft.clear();
      forget(job.sequence);
    }
    throw;
  }
}

void DraftModel::guess(std::span<Job> jobs) {
  std::vector<Job*> going_on = read_new_tokens(jobs);
  while (true) {
    std::erase_if(going_on,
                  [](const Job* job) { return static_cast<int>(job->draft.size()) >= job->most; });
    if (going_on.empty()) return;
    const Clock::TimePoint start = clock_.now();
    guess_next(going_on);
    const double ms = std::chrono::duration<double, std::milli>(clock_.now() - start).count();
    guess_ms_ = guess_ms_ == 0 ? ms : guess_ms_ + 0.1 * (ms - guess_ms_);
  }
}

// Room for the sequence and its guesses, and what is known of it; null where there is none.
DraftModel::State* DraftModel::prepare(const Job& job) {
  const auto place = states_.try_emplace(
      job.sequence, State{kvcache::BlockTable(pool_, runner_.limits().block_tokens), {}});
  State& state = place.first->second;
  const auto differ = std::ranges::mismatch(state.computed, job.tokens).in1;
  // The last token is computed again where it is known, for its logits.
  const auto known =
      std::min(differ - state.computed.begin(), static_cast<ptrdiff_t>(job.tokens.size()) - 1);
  state.computed.resize(static_cast<size_t>(known));
  const int wanted = static_cast<int>(job.tokens.size()) + job.most;
  return state.blocks.reserve(std::min(wanted, runner_.limits().context_tokens)) ? &state : nullptr;
}

// One step over all jobs; those that were read to their end have their first guess.
std::vector<DraftModel::Job*> DraftModel::read_new_tokens(std::span<Job> jobs) {
  inputs_.clear();
  std::vector<Job*> at_end;
  for (Job& job : jobs) {
    job.draft.clear();
    State* const state = prepare(job);
    const int room = runner_.limits().tokens - inputs_.tokens();
    if (state == nullptr || room == 0 || inputs_.sequences() == runner_.limits().sequences)
      continue;
    const auto fresh = job.tokens.subspan(state->computed.size());
    const auto chunk = fresh.first(std::min(fresh.size(), static_cast<size_t>(room)));
    const bool reaches_end = chunk.size() == fresh.size();
    inputs_.add(chunk, static_cast<int>(state->computed.size()), state->blocks,
                reaches_end ? 1 : 0);
    state->computed.insert(state->computed.end(), chunk.begin(), chunk.end());
    if (reaches_end) at_end.push_back(&job);
  }
  if (inputs_.tokens() == 0) return {};
  const auto logits = runner_.run(inputs_);
  const auto width = static_cast<size_t>(runner_.vocab_size());
  for (size_t i = 0; i < at_end.size(); ++i) {
    at_end[i]->draft.push_back(sampling::argmax(logits.subspan(i * width, width)));
  }
  return at_end;
}

// One more guess for each, after its last one.
void DraftModel::guess_next(std::vector<Job*>& jobs) {
  inputs_.clear();
  std::erase_if(jobs, [&](Job* job) {
    State& state = states_.at(job->sequence);
    const int position = static_cast<int>(state.computed.size());
    if (position >= runner_.limits().context_tokens) return true;
    const int32_t token = job->draft.back();
    inputs_.add(std::span(&token, 1), position, state.blocks, /*logits=*/1);
    state.computed.push_back(token);
    return false;
  });
  if (jobs.empty()) return;
  const auto logits = runner_.run(inputs_);
  const auto width = static_cast<size_t>(runner_.vocab_size());
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i]->draft.push_back(sampling::argmax(logits.subspan(i * width, width)));
  }
}

}  // namespace ridge::engine
