#include "engine/answer.h"

#include <utility>

#include "text/tokenizer.h"

namespace ridge::engine {

namespace {

text::ReasoningMode reasoning_mode(const Request& request) {
  if (!request.split_reasoning) return text::ReasoningMode::none;
  return request.prompt_opens_reasoning ? text::ReasoningMode::starts_inside
                                        : text::ReasoningMode::optional;
}

}  // namespace

Answer::Answer(const Request& request, int choice, std::shared_ptr<const text::Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)),
      detokenizer_(tokenizer_),
      stop_(request.stop),
      splitter_(reasoning_mode(request)),
      choice_(choice),
      min_tokens_(request.min_tokens),
      ignore_eos_(request.ignore_eos),
      wants_logprobs_(request.sampling.top_logprobs >= 0) {
  pending_.choice = choice;
}

sampling::Constraints Answer::constraints() {
  sampling::Constraints constraints;
  if (must_go_on()) constraints.banned = tokenizer_->end_of_generation_ids();
  return constraints;
}

int Answer::admissible(std::span<const int32_t> draft) {
  size_t count = 0;
  // An end of generation has no next token, so that a draft ends there in any case.
  while (count < draft.size() && !tokenizer_->is_end_of_generation(draft[count])) ++count;
  return static_cast<int>(count);
}

std::optional<FinishReason> Answer::push(const sampling::Pick& pick) {
  ++tokens_;
  ++pending_.token_count;
  // The tag that ends the reasoning still counts as reasoning.
  if (splitter_.in_reasoning()) ++reasoning_tokens_;
  if (!ignore_eos_ && tokenizer_->is_end_of_generation(pick.token)) return FinishReason::stop;
  if (wants_logprobs_) pending_.tokens.push_back(token_info(pick, *tokenizer_));
  const std::string text = detokenizer_.push(pick.token);
  // Text that may not end the answer yet is not looked at for stop sequences.
  add_text(tokens_ < min_tokens_ ? text : stop_.push(text));
  if (stop_.matched()) return FinishReason::stop;
  return std::nullopt;
}

void Answer::finish() {
  std::string rest;
  if (!stop_.matched()) {
    rest = stop_.push(detokenizer_.flush());
    rest += stop_.flush();
  }
  add_text(rest);
  text::ReasoningDelta split = splitter_.flush();
  pending_.reasoning += split.reasoning;
  pending_.content += split.content;
}

void Answer::add_text(std::string_view text) {
  if (text.empty()) return;
  text::ReasoningDelta split = splitter_.push(text);
  pending_.reasoning += split.reasoning;
  pending_.content += split.content;
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

std::optional<Delta> Answer::take_delta() {
  if (pending_.reasoning.empty() && pending_.content.empty()) return std::nullopt;
  return take_rest();
}

std::optional<Delta> Answer::take_rest() {
  if (pending_.token_count == 0 && pending_.reasoning.empty() && pending_.content.empty()) {
    return std::nullopt;
  }
  Delta delta = std::exchange(pending_, Delta{});
  pending_.choice = choice_;
  return delta;
}

}  // namespace ridge::engine
