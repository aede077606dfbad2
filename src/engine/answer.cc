#include "engine/answer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "text/tokenizer.h"

namespace ridge::engine {

namespace {

// The tags around calls are control tokens in some vocabularies.
std::vector<int32_t> shown_tokens(const Request& request, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> shown;
  if (request.harmony) {
    for (const std::string_view tag :
         {text::harmony::start, text::harmony::channel, text::harmony::constrain,
          text::harmony::message, text::harmony::end}) {
      if (const auto id = tokenizer.find(tag)) shown.push_back(*id);
    }
    return shown;
  }
  if (!request.tools) return shown;
  const text::ToolTags& tags = text::tags_of(request.tools->style);
  for (const std::string_view tag :
       {tags.block_open, tags.block_close, tags.call_open, tags.call_close, tags.separator}) {
    if (tag.empty()) continue;
    if (const auto id = tokenizer.find(tag)) shown.push_back(*id);
  }
  return shown;
}

}  // namespace

Answer::Answer(const Request& request, int choice, std::shared_ptr<const text::Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)),
      steering_(request, tokenizer_),
      detokenizer_(tokenizer_, /*skip_special=*/true, shown_tokens(request, *tokenizer_)),
      stop_(request.stop),
      splitter_(reasoning_mode(request)),
      parallel_calls_(!request.tools || request.tools->parallel),
      choice_(choice),
      min_tokens_(request.min_tokens),
      wants_logprobs_(request.sampling.top_logprobs >= 0) {
  if (request.harmony) {
    messages_.emplace(request.tools ? request.tools->names() : std::vector<std::string>());
  } else if (request.tools) {
    calls_.emplace(request.tools->style, request.tools->tools);
  }
  pending_.choice = choice;
}

sampling::Constraints Answer::constraints() { return steering_.constraints(); }

int Answer::admissible(std::span<const int32_t> draft) { return steering_.admissible(draft); }

std::optional<FinishReason> Answer::push(const sampling::Pick& pick) {
  ++tokens_;
  ++pending_.token_count;
  const std::string text = detokenizer_.push(pick.token);
  if (steering_.take(pick.token, text, detokenizer_.is_mid_character())) return FinishReason::stop;
  if (wants_logprobs_) pending_.tokens.push_back(token_info(pick, *tokenizer_));
  if (const auto newlines = steering_.newlines_before_grammar()) {
    splitter_.leave_out_at_most(*newlines);
  }
  // Text that may not end the answer yet is not looked at for stop sequences.
  add_text(tokens_ < min_tokens_ ? text : stop_.push(text));
  const bool has_its_call = !parallel_calls_ && calls_ended() > 0;
  if (stop_.matched() || has_its_call) return FinishReason::stop;
  return std::nullopt;
}

FinishReason Answer::finish(FinishReason reason) {
  if (!stop_.matched()) {
    std::string rest = stop_.push(detokenizer_.flush());
    rest += stop_.flush();
    add_text(rest);
  }
  if (const std::string* match = stop_.match()) pending_.stop_sequence = *match;
  if (messages_) {
    add_messages(messages_->flush());
  } else {
    add_split(splitter_.flush());
    if (calls_) pending_.pieces.append(calls_->flush());
  }
  return reason == FinishReason::stop && calls_begun() > 0 ? FinishReason::tool_calls : reason;
}

int Answer::calls_begun() const {
  return messages_ ? messages_->begun() : calls_ ? calls_->begun() : 0;
}

int Answer::calls_ended() const {
  return messages_ ? messages_->ended() : calls_ ? calls_->ended() : 0;
}

void Answer::add_text(std::string_view text) {
  if (text.empty()) return;
  if (messages_) {
    add_messages(messages_->push(text));
  } else {
    add_split(splitter_.push(text));
  }
}

void Answer::add_messages(text::HarmonyParser::Delta&& delta) {
  pending_.reasoning += delta.reasoning;
  pending_.pieces.append(std::move(delta.pieces));
}

void Answer::add_split(text::ReasoningDelta&& split) {
  pending_.reasoning += split.reasoning;
  if (calls_) {
    pending_.pieces.append(calls_->push(split.content));
  } else {
    pending_.pieces.add_content(split.content);
  }
}

TokenInfo token_info(const sampling::Pick& pick, const text::Tokenizer& tokenizer) {
  const auto with_bytes = [&](int32_t id, float logprob) {
    return TokenLogprob{id, logprob, std::string(tokenizer.token_bytes(id))};
  };
  TokenInfo info{with_bytes(pick.token, pick.logprob), {}};
  for (const sampling::ScoredToken& token : pick.top) {
    info.top.push_back(with_bytes(token.id, token.score));
  }
  return info;
}

bool Answer::has_text() const {
  return !pending_.reasoning.empty() || !pending_.pieces.empty() || !pending_.stop_sequence.empty();
}

std::optional<Delta> Answer::take_delta() {
  if (!has_text()) return std::nullopt;
  return take_rest();
}

std::optional<Delta> Answer::take_rest() {
  if (pending_.token_count == 0 && !has_text()) return std::nullopt;
  Delta delta = std::exchange(pending_, Delta{});
  pending_.choice = choice_;
  return delta;
}

}  // namespace ridge::engine
