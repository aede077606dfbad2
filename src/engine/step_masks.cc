// Masks of grammars, computed beside the step: one depends only on tokens that were picked before.
#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/active_request.h"
#include "engine/step_loop.h"
#include "text/grammar.h"

namespace ridge::engine {

namespace {

// How long a step that has its logits waits for masks, for all of them together, where others wait
// for the step; what is not ready then has its tokens in a later one.
constexpr std::chrono::milliseconds patience{2};
// The same where nobody else waits for it: orders from outside are heard between two steps.
constexpr std::chrono::milliseconds lonely_patience{20};

}  // namespace

bool StepLoop::lacks_mask(const Choice& choice) {
  const auto is_missing = [](const Choice& each) { return each.mask && !each.mask->is_done(); };
  // All choices take their first tokens where the prompt ends.
  if (choice.number > 0 || choice.answer.tokens() > 0) return is_missing(choice);
  return std::ranges::any_of(choice.owner.choices,
                             [&](const auto& sibling) { return is_missing(*sibling); });
}

// False where the choice's next token needs no mask, or has it asked for already.
bool StepLoop::start_mask(Choice& choice) {
  if (options_.masks == nullptr || choice.mask != nullptr) return false;
  std::shared_ptr<text::GrammarMatcher> matcher = choice.answer.matcher_to_ask();
  if (!matcher) return false;
  choice.mask = std::make_shared<MaskJob>([matcher = std::move(matcher)] { matcher->mask(); });
  options_.masks->start(choice.sequence.owner.group, choice.mask);
  return true;
}

// Before a step is planned: whose mask is still being computed sits it out.
void StepLoop::seat_choices() {
  if (options_.masks == nullptr) return;
  for (const auto& [id, choice] : choices_) {
    Sequence& sequence = choice->sequence;
    sequence.sits_out = sequence.state == Sequence::State::running &&
                        sequence.pending_tokens() == 1 && lacks_mask(*choice);
  }
}

// Where nobody else can go on.
void StepLoop::wait_for_masks() {
  if (options_.masks == nullptr) return;
  options_.masks->wait(lonely_patience, [&] {
    return std::ranges::any_of(choices_, [](const auto& entry) {
      return entry.second->sequence.sits_out && !lacks_mask(*entry.second);
    });
  });
}

void StepLoop::start_masks(const Batch& batch) {
  masks_until_.reset();
  if (options_.masks == nullptr) return;
  for (const Chunk& chunk : batch) {
    const auto found = choices_.find(chunk.sequence->id);
    if (found == choices_.end() || !chunk.reaches_end || chunk.sequence->outputs_hidden) continue;
    Choice& choice = *found->second;
    const bool is_first = choice.number == 0 && choice.answer.tokens() == 0;
    try {
      if (!is_first) start_mask(choice);
      for (const auto& sibling : choice.owner.choices) {
        if (is_first) start_mask(*sibling);
      }
    } catch (const std::exception&) {
      // What fails here fails again where the mask is asked for, and is told there.
    }
  }
}

// Who has no mask yet computes the last token once more in a later step, and keeps nobody waiting.
void StepLoop::await_masks(Batch& batch) {
  if (options_.masks == nullptr) return;
  const auto lacks = [&](const Chunk& chunk) {
    const auto found = choices_.find(chunk.sequence->id);
    return found != choices_.end() && chunk.reaches_end && lacks_mask(*found->second);
  };
  if (std::ranges::none_of(batch, lacks)) return;
  const bool is_lonely = std::ranges::all_of(batch, lacks);
  masks_until_ = clock_.now() + patience;
  options_.masks->wait(is_lonely ? lonely_patience : patience,
                       [&] { return std::ranges::none_of(batch, lacks); });
  for (Chunk& chunk : batch) {
    if (!lacks(chunk)) continue;
    chunk.redone = 1;
    chunk.reaches_end = false;
    chunk.sequence->draft.clear();
  }
}

// Behind a guess that was right, the mask that picks the next one. False where it is not there in
// time.
bool StepLoop::await_mask_of_guess(Choice& choice) {
  if (!start_mask(choice)) return true;
  const Clock::TimePoint now = clock_.now();
  if (!masks_until_) masks_until_ = now + patience;
  options_.masks->wait(std::max(*masks_until_ - now, Clock::Duration::zero()),
                       [&] { return choice.mask->is_done(); });
  return choice.mask->is_done();
}

}  // namespace ridge::engine
