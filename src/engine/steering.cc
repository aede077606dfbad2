#include "engine/steering.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "text/tokenizer.h"

namespace ridge::engine {
namespace {

// Bytes of a character that a model may still write before its thinking is ended all the same.
constexpr int most_tokens_of_character = 4;

std::shared_ptr<const text::Grammar> call_grammar(const Request& request) {
  return request.tools && request.grammar == nullptr ? request.tools->call_grammar : nullptr;
}

void set_bit(std::vector<uint32_t>& mask, int32_t token) {
  const auto id = static_cast<std::size_t>(token);
  if (id / 32 >= mask.size()) mask.resize(id / 32 + 1);
  mask[id / 32] |= 1u << (id % 32);
}

bool has_bit(std::span<const uint32_t> mask, int32_t token) {
  const auto id = static_cast<std::size_t>(token);
  return id / 32 < mask.size() && ((mask[id / 32] >> (id % 32)) & 1u) != 0;
}

}  // namespace

Steering::Steering(const Request& request, std::shared_ptr<const text::Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)),
      grammar_(request.grammar),
      call_grammar_(call_grammar(request)),
      tool_style_(request.tools ? request.tools->style : text::ToolStyle::hermes),
      min_tokens_(request.min_tokens),
      ignore_eos_(request.ignore_eos),
      thinking_budget_(request.thinking_budget),
      think_open_(tokenizer_->find(text::think_open_tag)),
      think_close_(tokenizer_->find(text::think_close_tag)),
      message_end_(tokenizer_->find(text::harmony::end)),
      message_start_(tokenizer_->find(text::harmony::start)),
      message_text_(tokenizer_->find(text::harmony::message)),
      splitter_(reasoning_mode(request)),
      may_call_(request.tools.has_value()) {
  if (request.harmony) {
    messages_.emplace(request.tools ? request.tools->names() : std::vector<std::string>());
    if (!grammar_) return;
    forced_ = encode(text::harmony::channel);
    after_head_ = AfterHead::grammar;
    may_analyse_ = true;
    return;
  }
  if (call_grammar_) calls_.emplace(tool_style_, request.tools->tools);
  if (!grammar_ || splitter_.in_reasoning()) return;
  follow(*grammar_);
  may_open_thinking_ = !splitter_.in_content() && think_open_.has_value();
  if (!may_open_thinking_) splitter_.begin_content();
}

bool Steering::is_end(int32_t token) const { return tokenizer_->is_end_of_generation(token); }

// The last one first.
std::vector<int32_t> Steering::encode(std::string_view text) const {
  std::vector<int32_t> tokens =
      tokenizer_->encode(text, {.add_special = false, .parse_special = true});
  std::ranges::reverse(tokens);
  return tokens;
}

sampling::Constraints Steering::constraints() {
  close_thinking_if_due();
  if (!forced_.empty()) return only(forced_.back());
  if (chooses_channel_) {
    mask_.clear();
    allow(encode(text::harmony::final_channel).back());
    allow(encode(text::harmony::commentary).back());
    return {.allowed = mask_, .banned = {}};
  }
  if (matcher_) return under_grammar();
  sampling::Constraints constraints;
  // A grammar that has not begun accepts no end.
  const bool awaits_grammar = grammar_ != nullptr;
  if (must_go_on() || awaits_grammar) constraints.banned = tokenizer_->end_of_generation_ids();
  return constraints;
}

std::shared_ptr<text::GrammarMatcher> Steering::matcher_to_ask() {
  close_thinking_if_due();
  return forced_.empty() ? matcher_ : nullptr;
}

void Steering::follow(const text::Grammar& grammar) {
  matcher_ = std::make_shared<text::GrammarMatcher>(grammar.start());
}

sampling::Constraints Steering::only(int32_t token) {
  mask_.assign(static_cast<std::size_t>(token) / 32 + 1, 0);
  set_bit(mask_, token);
  return {.allowed = mask_, .banned = {}};
}

sampling::Constraints Steering::under_grammar() {
  sampling::Constraints constraints;
  constraints.allowed = matcher_->mask();
  // Where only the end is left, the answer ends, whatever its length was to be.
  if ((must_go_on() || ignore_eos_) && allows_more_than_ends(constraints.allowed)) {
    constraints.banned = tokenizer_->end_of_generation_ids();
  }
  if (is_before_grammar()) {
    mask_.assign(constraints.allowed.begin(), constraints.allowed.end());
    if (may_open_thinking_ && !ends_thinking_) allow(think_open_);
    if (may_analyse_ && !is_thinking_spent()) allow(encode(text::harmony::analysis).back());
    if (may_break_line_) {
      allow(tokenizer_->find("\n"));
      allow(tokenizer_->find("\n\n"));
    }
    constraints.allowed = mask_;
  }
  return constraints;
}

void Steering::allow(std::optional<int32_t> token) {
  if (token) set_bit(mask_, *token);
}

bool Steering::allows_more_than_ends(std::span<const uint32_t> mask) const {
  int allowed = 0;
  for (const uint32_t word : mask) allowed += std::popcount(word);
  for (const int32_t end : tokenizer_->end_of_generation_ids()) allowed -= has_bit(mask, end);
  return allowed > 0;
}

void Steering::close_thinking_if_due() {
  // A message's head is not broken off, but the first need not begin.
  const bool is_before_messages = messages_ && messages_->is_fresh() && !matcher_;
  if ((!in_reasoning() && !is_before_messages) || !forced_.empty() || !is_thinking_spent()) return;
  if (is_mid_character_ && tokens_mid_character_ < most_tokens_of_character) return;
  if (messages_) return begin_answering_message();
  // As the families write it themselves.
  std::string text = ends_in_newline_ ? "" : "\n";
  text.append(text::think_close_tag).append("\n\n");
  forced_ = encode(text);
}

// Writes the head of the message behind the reasoning, up to what is the model's to choose.
void Steering::begin_answering_message() {
  if (chooses_channel_) return;
  std::string head;
  if (!messages_->is_fresh()) {
    if (in_reasoning()) head += text::harmony::end;
    head.append(text::harmony::start).append(text::harmony::assistant);
  }
  head += text::harmony::channel;
  after_head_ = grammar_    ? AfterHead::grammar
                : may_call_ ? AfterHead::channel
                            : AfterHead::nothing;
  if (after_head_ == AfterHead::nothing) {
    head.append(text::harmony::final_channel).append(text::harmony::message);
  }
  forced_ = encode(head);
}

void Steering::end_forced_head() {
  const AfterHead after = std::exchange(after_head_, AfterHead::nothing);
  if (after == AfterHead::channel) chooses_channel_ = true;
  if (after != AfterHead::grammar) return;
  follow(*grammar_);
  matcher_->consume(*tokenizer_->find(text::harmony::channel));
}

// The first token of a channel's name was taken; the others have to follow.
void Steering::take_channel(std::string_view name, bool with_message) {
  std::string text(name);
  if (with_message) text += text::harmony::message;
  forced_ = encode(text);
  forced_.pop_back();
}

// Moves the constraints on by a token; false where it ends the answer.
bool Steering::takes_turn_in_messages(int32_t token, std::string_view text) {
  const bool was_thinking = in_reasoning();
  if (was_thinking) ++reasoning_tokens_;
  if (is_end(token) && (!ignore_eos_ || matcher_)) return false;
  if (!forced_.empty()) {
    forced_.pop_back();
    if (forced_.empty()) end_forced_head();
  } else if (std::exchange(chooses_channel_, false)) {
    const bool is_final = token == encode(text::harmony::final_channel).back();
    take_channel(is_final ? text::harmony::final_channel : text::harmony::commentary, is_final);
  } else if (matcher_) {
    const bool may_analyse = std::exchange(may_analyse_, false);
    if (may_analyse && !has_bit(matcher_->mask(), token)) {
      matcher_.reset();
      take_channel(text::harmony::analysis, /*with_message=*/true);
    } else {
      matcher_->consume(token);
    }
  }
  messages_->push(text);
  follow_messages(was_thinking);
  return true;
}

void Steering::follow_messages(bool was_thinking) {
  const bool has_thought = was_thinking && !in_reasoning();
  if (grammar_ && has_thought && !matcher_ && forced_.empty()) begin_answering_message();
  const bool is_calling = messages_->place() == text::HarmonyParser::Place::call;
  if (call_grammar_ && is_calling && !matcher_ && followed_calls_ < messages_->begun()) {
    followed_calls_ = messages_->begun();
    follow(*call_grammar_);
    matcher_->consume_text(
        fmt::format("to={}{}", text::harmony::functions, messages_->open_name()));
    matcher_->consume(*tokenizer_->find(text::harmony::message));
    const std::string arguments = messages_->open_arguments();
    if (!arguments.empty()) matcher_->consume_text(arguments);
  }
  // A call that is complete ends the turn, so that its grammar, which now allows ends alone, stays.
}

int Steering::admissible(std::span<const int32_t> draft) {
  const auto first_end = std::ranges::find_if(draft, [&](int32_t id) { return is_end(id); });
  draft = draft.first(static_cast<std::size_t>(first_end - draft.begin()));
  // What fails here fails again in constraints(), where it is told.
  try {
    close_thinking_if_due();
    if (!forced_.empty()) {
      const auto [at, _] =
          std::mismatch(draft.begin(), draft.end(), forced_.rbegin(), forced_.rend());
      return static_cast<int>(at - draft.begin());
    }
    if (is_before_grammar()) return 0;
    if (matcher_) return matcher_->count_valid(draft);
  } catch (const Error&) {
    return 0;
  }
  auto count = static_cast<int>(draft.size());
  if (messages_) {
    // A head may be that of further reasoning.
    if (thinking_budget_ && messages_->place() != text::HarmonyParser::Place::content) {
      count = std::clamp(*thinking_budget_ - reasoning_tokens_, 0, count);
    }
    // What may come behind the reasoning, and in a call, is not known before it has come.
    if (!grammar_ && !call_grammar_) return count;
    const auto control = std::ranges::find_if(draft, [&](int32_t id) {
      return id == message_end_ || id == message_start_ || id == message_text_;
    });
    return std::min({count, static_cast<int>(control - draft.begin()) + 1,
                     static_cast<int>(draft.size())});
  }
  if (splitter_.in_reasoning()) {
    // A spent budget ends the thinking only behind a whole character; until then nothing is left.
    if (thinking_budget_) count = std::clamp(*thinking_budget_ - reasoning_tokens_, 0, count);
    // What may come behind it is not known before it has come.
    const auto close = std::ranges::find(draft, think_close_.value_or(-1));
    if (grammar_) count = std::min(count, static_cast<int>(close - draft.begin()) + 1);
    count = std::min(count, static_cast<int>(draft.size()));
  }
  return count;
}

bool Steering::take(int32_t token, std::string_view text, bool is_mid_character) {
  ++tokens_;
  is_mid_character_ = is_mid_character;
  tokens_mid_character_ = is_mid_character ? tokens_mid_character_ + 1 : 0;
  if (messages_) return !takes_turn_in_messages(token, text);
  const bool was_thinking = splitter_.in_reasoning();
  const bool was_forced = !forced_.empty();
  if (was_thinking || was_forced) ++reasoning_tokens_;
  if (is_end(token) && (!ignore_eos_ || matcher_)) return true;
  if (was_forced) {
    forced_.pop_back();
    if (forced_.empty()) may_break_line_ = false;
  } else if (!was_thinking && matcher_) {
    take_content(token);
  }
  if (!text.empty()) ends_in_newline_ = text.ends_with('\n');
  const text::ReasoningDelta delta = splitter_.push(text);
  if (was_thinking && splitter_.in_content() && grammar_) begin_grammar(delta.content);
  if (calls_) follow_calls(delta.content);
  return false;
}

// A token that begins or goes on with the grammar, or stands in front of it.
void Steering::take_content(int32_t token) {
  if (may_open_thinking_) {
    may_open_thinking_ = false;
    if (token == think_open_) {
      matcher_.reset();
      return;
    }
    splitter_.begin_content();
  }
  if (may_break_line_) {
    may_break_line_ = false;
    if (!has_bit(matcher_->mask(), token)) return;
  }
  if (!newlines_before_grammar_) newlines_before_grammar_ = splitter_.newlines_left_out();
  matcher_->consume(token);
}

// The reasoning has ended, in a token that had `text` behind its tag.
void Steering::begin_grammar(std::string_view text) {
  follow(*grammar_);
  if (text.empty()) {
    may_break_line_ = splitter_.newlines_left_out() == 0;
    return;
  }
  newlines_before_grammar_ = splitter_.newlines_left_out();
  matcher_->consume_text(text);
}

void Steering::follow_calls(std::string_view content) {
  calls_->push(content);
  if (!matcher_ && calls_->is_open()) {
    const std::string text = calls_->open_text();
    const std::string_view tag = text::tags_of(tool_style_).call_open;
    std::string_view rest = text;
    follow(*call_grammar_);
    if (const auto id = tokenizer_->find(tag); id && rest.starts_with(tag)) {
      matcher_->consume(*id);
      rest.remove_prefix(tag.size());
    }
    matcher_->consume_text(rest);
  }
  // The call is complete; the answer goes on as it likes.
  if (matcher_ && matcher_->is_stopped()) matcher_.reset();
}

text::ReasoningMode reasoning_mode(const Request& request) {
  if (!request.split_reasoning) return text::ReasoningMode::none;
  return request.prompt_opens_reasoning ? text::ReasoningMode::starts_inside
                                        : text::ReasoningMode::optional;
}

}  // namespace ridge::engine
