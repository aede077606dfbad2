#include "server/answer_queue.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "api/usage_json.h"

namespace ridge::server {
namespace {

std::size_t bytes_of(std::span<const engine::TokenInfo> tokens) {
  std::size_t bytes = 0;
  for (const engine::TokenInfo& token : tokens) {
    bytes += sizeof(engine::TokenInfo) + token.top.size() * sizeof(engine::TokenLogprob);
  }
  return bytes;
}

// Without the pieces' own size, which those that are joined do not take.
std::size_t bytes_of(const engine::Delta& delta) {
  std::size_t bytes = delta.reasoning.size() + bytes_of(delta.tokens);
  for (const text::AnswerPiece& next : delta.pieces) {
    if (const auto* content = std::get_if<std::string>(&next)) {
      bytes += content->size();
    } else {
      const auto& piece = std::get<text::ToolCallPiece>(next);
      bytes += piece.name.size() + piece.arguments.size();
    }
  }
  return bytes;
}

// Whether a delta says only what the other says, too: reasoning, content or calls.
bool says_the_like(const engine::Delta& one, const engine::Delta& other) {
  const auto has_calls = [](const engine::Delta& delta) {
    return std::ranges::any_of(delta.pieces, [](const text::AnswerPiece& piece) {
      return std::holds_alternative<text::ToolCallPiece>(piece);
    });
  };
  return one.reasoning.empty() == other.reasoning.empty() &&
         one.pieces.empty() == other.pieces.empty() && has_calls(one) == has_calls(other);
}

// A delta has its reasoning in front of all else; and its tokens belong to what it says.
bool may_join(const engine::Delta& onto, const engine::Delta& more) {
  if (!more.reasoning.empty() && !onto.pieces.empty()) return false;
  return more.tokens.empty() || says_the_like(onto, more);
}

}  // namespace

AnswerQueue::AnswerQueue(int requests, std::size_t max_bytes, bool wake_for_text,
                         std::function<void()> wake)
    : max_bytes_(max_bytes),
      wake_for_text_(wake_for_text),
      wake_(std::move(wake)),
      unfinished_(requests) {}

void AnswerQueue::push_delta(int choice, engine::Delta&& delta) {
  {
    std::lock_guard lock(mutex_);
    if (overflowed_) return;
    append_locked(choice, std::move(delta));
    overflowed_ = bytes_ > max_bytes_;
    if (woken_ || (!wake_for_text_ && !overflowed_)) return;
    woken_ = true;
  }
  wake_();
}

void AnswerQueue::append_locked(int choice, engine::Delta&& delta) {
  bytes_ += bytes_of(delta);
  const auto same = std::find_if(events_.rbegin(), events_.rend(), [&](const AnswerEvent& event) {
    return event.choice == choice && event.kind == AnswerEvent::Kind::text;
  });
  if (same == events_.rend() || !may_join(same->delta, delta)) {
    bytes_ += sizeof(AnswerEvent) + delta.pieces.size() * sizeof(text::AnswerPiece);
    events_.push_back({.choice = choice, .delta = std::move(delta)});
    return;
  }
  engine::Delta& onto = same->delta;
  onto.reasoning += delta.reasoning;
  const std::size_t pieces = onto.pieces.size();
  onto.pieces.append(std::move(delta.pieces));
  bytes_ += (onto.pieces.size() - pieces) * sizeof(text::AnswerPiece);
  onto.token_count += delta.token_count;
  if (!delta.stop_sequence.empty()) onto.stop_sequence = std::move(delta.stop_sequence);
  std::move(delta.tokens.begin(), delta.tokens.end(), std::back_inserter(onto.tokens));
}

void AnswerQueue::push(AnswerEvent&& event, std::size_t bytes) {
  {
    std::lock_guard lock(mutex_);
    if (bytes > 0 && overflowed_) return;
    bytes_ += bytes;
    overflowed_ |= bytes_ > max_bytes_;
    if (bytes == 0 || !overflowed_) events_.push_back(std::move(event));
    if (woken_ || (!wake_for_text_ && !overflowed_)) return;
    woken_ = true;
  }
  wake_();
}

void AnswerQueue::push_prompt(int choice, std::vector<engine::TokenInfo>&& tokens) {
  const std::size_t bytes = bytes_of(tokens);
  push({.kind = AnswerEvent::Kind::prompt, .choice = choice, .prompt = std::move(tokens)}, bytes);
}

void AnswerQueue::push_embedding(int choice, std::vector<float>&& embedding) {
  const std::size_t bytes = embedding.size() * sizeof(float);
  push({.kind = AnswerEvent::Kind::embedding, .choice = choice, .embedding = std::move(embedding)},
       bytes);
}

void AnswerQueue::push_choice_finish(int choice, engine::FinishReason reason) {
  push({.kind = AnswerEvent::Kind::finished, .choice = choice, .reason = reason});
}

void AnswerQueue::push_finish(const engine::Finish& finish) {
  {
    std::lock_guard lock(mutex_);
    api::add_usage(end_.usage, finish.usage);
    if (finish.error && !end_.error) end_.error = finish.error;
    if (!end_.reason && !finish.reasons.empty()) end_.reason = finish.reasons.front();
    const auto cancelled = [](engine::FinishReason r) {
      return r == engine::FinishReason::cancelled;
    };
    end_.cancelled |= std::any_of(finish.reasons.begin(), finish.reasons.end(), cancelled);
    const auto failed = [](engine::FinishReason r) { return r == engine::FinishReason::failed; };
    if (!end_.error && std::any_of(finish.reasons.begin(), finish.reasons.end(), failed)) {
      end_.error.emplace(ErrorCode::internal, "the engine gave no reason for a failure");
    }
    if (--unfinished_ > 0) return;
    woken_ = true;
  }
  wake_();
}

std::vector<AnswerEvent> AnswerQueue::take() {
  std::lock_guard lock(mutex_);
  woken_ = false;
  bytes_ = 0;
  return std::exchange(events_, {});
}

void AnswerQueue::set_why_cancelled(const Error& why) {
  std::lock_guard lock(mutex_);
  why_cancelled_ = why;
}

std::optional<AnswerEnd> AnswerQueue::end() const {
  std::lock_guard lock(mutex_);
  if (unfinished_ > 0 || !events_.empty()) return std::nullopt;
  AnswerEnd end = end_;
  if (end.cancelled && !end.error) end.error = why_cancelled_;
  return end;
}

bool AnswerQueue::has_ended() const {
  std::lock_guard lock(mutex_);
  return unfinished_ == 0;
}

std::size_t AnswerQueue::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

bool AnswerQueue::overflowed() const {
  std::lock_guard lock(mutex_);
  return overflowed_;
}

}  // namespace ridge::server
