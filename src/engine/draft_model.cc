#include "engine/draft_model.h"

#include <algorithm>
#include <utility>

#include "sampling/logits.h"

namespace ridge::engine {

namespace {

// Of a sequence that had its last guesses in the step before: what it was given since.
constexpr int followed_tokens = 16;

}  // namespace

DraftModel::DraftModel(StepRunner& runner, const Clock& clock)
    : runner_(runner),
      clock_(clock),
      pool_(runner.limits().blocks),
      inputs_(blocks_per_sequence(runner.limits())) {}

void DraftModel::propose(std::span<Job> jobs, int read_tokens) {
  try {
    guess(jobs, read_tokens);
  } catch (...) {
    // What a failed pass left in the cache is not known.
    for (Job& job : jobs) {
      job.draft.clear();
      forget(job.sequence);
    }
    throw;
  }
}

void DraftModel::guess(std::span<Job> jobs, int read_tokens) {
  std::vector<Job*> going_on = read_new_tokens(jobs, read_tokens);
  if (!going_on.empty()) guessed_sequences_ = static_cast<int>(going_on.size());
  while (true) {
    std::erase_if(going_on,
                  [](const Job* job) { return static_cast<int>(job->draft.size()) >= job->most; });
    if (going_on.empty()) return;
    const Clock::TimePoint start = clock_.now();
    guess_next(going_on);
    cost_.observe(inputs_.tokens(), 0, milliseconds(clock_.now() - start));
  }
}

int DraftModel::unread(SequenceId sequence, size_t tokens) const {
  const auto found = states_.find(sequence);
  const size_t known = found == states_.end() ? 0 : found->second.computed.size();
  const int behind = static_cast<int>(tokens - std::min(tokens, known));
  return behind > followed_tokens ? behind : 0;
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
std::vector<DraftModel::Job*> DraftModel::read_new_tokens(std::span<Job> jobs, int read_tokens) {
  inputs_.clear();
  std::vector<Job*> at_end;
  const auto add = [&](Job& job, State& state, int most_tokens) {
    const int room = std::min(most_tokens, runner_.limits().tokens - inputs_.tokens());
    if (room <= 0 || inputs_.sequences() == runner_.limits().sequences) return 0;
    const auto fresh = job.tokens.subspan(state.computed.size());
    const auto chunk = fresh.first(std::min(fresh.size(), static_cast<size_t>(room)));
    const bool reaches_end = chunk.size() == fresh.size();
    inputs_.add(chunk, static_cast<int>(state.computed.size()), state.blocks, reaches_end ? 1 : 0);
    state.computed.insert(state.computed.end(), chunk.begin(), chunk.end());
    if (reaches_end) at_end.push_back(&job);
    return static_cast<int>(chunk.size());
  };
  // Those that are followed need not wait for others' long prompts.
  int rows = 0;
  std::vector<std::pair<Job*, State*>> behind;
  for (Job& job : jobs) {
    job.draft.clear();
    State* const state = prepare(job);
    if (state == nullptr) continue;
    const int fresh = static_cast<int>(job.tokens.size() - state->computed.size());
    if (fresh <= followed_tokens) {
      rows += add(job, *state, fresh);
    } else {
      behind.emplace_back(&job, state);
    }
  }
  int read = 0;
  for (const auto& [job, state] : behind) read += add(*job, *state, read_tokens - read);
  if (inputs_.tokens() == 0) return {};
  const Clock::TimePoint start = clock_.now();
  const auto logits = runner_.run(inputs_);
  cost_.observe(rows, read, milliseconds(clock_.now() - start));
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
    const int32_t token = job->draft.back();
    // Of logits that are no numbers the largest is none.
    if (position >= runner_.limits().context_tokens || token >= runner_.vocab_size()) return true;
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
