#include "engine/mtp_drafter.h"

#include <algorithm>

#include "base/error.h"
#include "sampling/logits.h"

namespace ridge::engine {

MtpDrafter::MtpDrafter(StepRunner& runner, const Clock& clock)
    : runner_(runner), clock_(clock), inputs_(blocks_per_sequence(runner.limits())) {
  RIDGE_ASSERT(runner.guesses());
}

void MtpDrafter::follow(std::span<const Part> parts) {
  if (parts.empty()) return;
  for (const Part& part : parts) states_.erase(part.sequence);
  const RunnerLimits& limits = runner_.limits();
  const std::span<const float> hidden = runner_.hidden();
  while (!parts.empty()) {
    size_t count = 0;
    int tokens = 0;
    while (count < parts.size() && static_cast<int>(count) < limits.sequences) {
      tokens += static_cast<int>(parts[count].following.size());
      if (tokens > limits.tokens) break;
      ++count;
    }
    RIDGE_ASSERT(count > 0);
    run(parts.first(count), hidden);
    parts = parts.subspan(count);
  }
}

// One pass.
void MtpDrafter::run(std::span<const Part> parts, std::span<const float> hidden) {
  const auto width = static_cast<size_t>(runner_.hidden_size());
  inputs_.clear();
  rows_.clear();
  for (const Part& part : parts) {
    inputs_.add(part.following, part.first_position, *part.blocks, /*logits=*/1);
    const auto rows =
        hidden.subspan(static_cast<size_t>(part.first_row) * width, part.following.size() * width);
    rows_.insert(rows_.end(), rows.begin(), rows.end());
  }
  const std::span<const float> states = runner_.run_guessing(inputs_, rows_);
  for (size_t i = 0; i < parts.size(); ++i) {
    State& state = states_[parts[i].sequence];
    const auto row = states.subspan(i * width, width);
    state.hidden.assign(row.begin(), row.end());
    state.tokens = parts[i].first_position + static_cast<int>(parts[i].following.size()) + 1;
  }
}

bool MtpDrafter::follows(SequenceId sequence, int tokens) const {
  const auto found = states_.find(sequence);
  return found != states_.end() && found->second.tokens == tokens;
}

void MtpDrafter::propose(std::span<Job> jobs) {
  if (jobs.empty()) return;
  guessed_sequences_ = static_cast<int>(jobs.size());
  std::vector<Job*> going_on;
  std::vector<float> states;
  for (Job& job : jobs) {
    RIDGE_ASSERT(job.most >= 1 && follows(job.sequence, job.tokens));
    const State& state = states_.at(job.sequence);
    states.insert(states.end(), state.hidden.begin(), state.hidden.end());
    going_on.push_back(&job);
  }
  Clock::TimePoint start = clock_.now();
  while (true) {
    const std::vector<Job*> guessed = going_on;
    going_on = guess(guessed, states);
    if (!going_on.empty()) {
      // The states of those that go on, at the positions that their last guesses follow.
      const auto width = static_cast<size_t>(runner_.hidden_size());
      inputs_.clear();
      rows_.clear();
      for (size_t i = 0; i < guessed.size(); ++i) {
        const Job& job = *guessed[i];
        if (!goes_on(job)) continue;
        const int position = job.tokens - 2 + static_cast<int>(job.draft.size());
        inputs_.add(std::span(&job.draft.back(), 1), position, *job.blocks, /*logits=*/1);
        const auto row = std::span<const float>(states).subspan(i * width, width);
        rows_.insert(rows_.end(), row.begin(), row.end());
      }
      const auto next = runner_.run_guessing(inputs_, rows_);
      states.assign(next.begin(), next.end());
    }
    const Clock::TimePoint now = clock_.now();
    cost_.observe(static_cast<int>(guessed.size()), 0, milliseconds(now - start));
    start = now;
    if (going_on.empty()) return;
  }
}

// One guess for each from its state; returns those that want more.
std::vector<MtpDrafter::Job*> MtpDrafter::guess(const std::vector<Job*>& jobs,
                                                std::span<const float> states) {
  const auto logits = runner_.run_guess(states);
  const auto width = static_cast<size_t>(runner_.vocab_size());
  std::vector<Job*> going_on;
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i]->draft.push_back(sampling::argmax(logits.subspan(i * width, width)));
    if (goes_on(*jobs[i])) going_on.push_back(jobs[i]);
  }
  return going_on;
}

// Of logits that are no numbers the largest is none.
bool MtpDrafter::goes_on(const Job& job) const {
  return static_cast<int>(job.draft.size()) < job.most && job.draft.back() < runner_.vocab_size();
}

}  // namespace ridge::engine
