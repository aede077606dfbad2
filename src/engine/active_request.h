#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/mask_pool.h"
#include "engine/request_trace.h"
#include "engine/speculation_gate.h"
#include "engine/step_loop.h"
#include "engine/suffix_drafter.h"

// What a StepLoop knows of its requests; for its own files alone.
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
  std::shared_ptr<MaskJob> mask;  // of the next token, where that is computed elsewhere
  std::optional<FinishReason> reason;  // once it has ended

  // Where there is a mask, it is the matcher's from here on. Throws what its work has thrown.
  void take_mask() {
    if (mask) std::exchange(mask, nullptr)->check();
  }

  // What its trace was told last.
  bool had_place = false;
  bool was_admitted = false;
  std::optional<Wait> told_wait;
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

inline Error as_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) {
    return Error(ErrorCode::out_of_memory, "the server found no memory for it");
  }
  return Error(ErrorCode::internal, exception.what());
}

}  // namespace ridge::engine
