#include "api/logprobs_json.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "api/json_text.h"
#include "text/detokenizer.h"

namespace ridge::api {
namespace {

void append_bytes(std::string& out, std::string_view bytes) {
  out += '[';
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

void append_token(std::string& out, const engine::TokenLogprob& token) {
  out += "{\"token\":";
  append_json_string(out, token.bytes);
  out += ",\"logprob\":";
  append_json_number(out, token.logprob);
  out += ",\"bytes\":";
  append_bytes(out, token.bytes);
}

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Characters that begin in `bytes`; the parts of one that is split over tokens add up to one.
std::size_t count_characters(std::string_view bytes) {
  std::size_t characters = 0;
  for (const char byte : bytes) characters += is_continuation(byte) ? 0 : 1;
  return characters;
}

bool is_whole_text(std::string_view bytes) {
  text::Utf8Assembler assembler;
  const std::string whole = assembler.push(bytes);
  return whole == bytes && !assembler.holds_bytes();
}

// Takes what a token shows off the front of a text. Where a text begins, a SentencePiece token may
// have a space that the text lacks; where its bytes form no character, the text has U+FFFD.
std::string_view take_shown(std::string_view& text, std::string_view bytes, bool at_start) {
  if (at_start && bytes.starts_with(' ') && !text.starts_with(bytes)) bytes.remove_prefix(1);
  if (!text.starts_with(bytes) && text.starts_with(replacement_character)) {
    bytes = replacement_character;
  }
  if (!text.starts_with(bytes)) return {};
  const std::string_view shown = text.substr(0, bytes.size());
  text.remove_prefix(bytes.size());
  return shown;
}

void separate(std::string& list) {
  if (!list.empty()) list += ',';
}

}  // namespace

void append_chat_logprobs(std::string& out, std::span<const engine::TokenInfo> tokens) {
  bool first = true;
  for (const engine::TokenInfo& token : tokens) {
    if (!first) out += ',';
    first = false;
    append_token(out, token.picked);
    out += ",\"top_logprobs\":[";
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      if (i > 0) out += ',';
      append_token(out, token.top[i]);
      out += '}';
    }
    out += "]}";
  }
}

std::string completion_token_name(std::string_view bytes) {
  if (is_whole_text(bytes)) return std::string(bytes);
  std::string name = "bytes:";
  for (const char byte : bytes) {
    fmt::format_to(std::back_inserter(name), "\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return name;
}

void CompletionLogprobs::add_name(std::string_view bytes) {
  for (std::string* list : {&tokens_, &logprobs_, &tops_, &offsets_}) separate(*list);
  append_json_string(tokens_, completion_token_name(bytes));
  fmt::format_to(std::back_inserter(offsets_), "{}", offset_characters_);
}

// The picked token is among its alternatives, as in OpenAI's service: with it, a client can tell
// whether it was the best.
void CompletionLogprobs::add_token(const engine::TokenInfo& token) {
  add_name(token.picked.bytes);
  append_json_number(logprobs_, token.picked.logprob);
  tops_ += '{';
  bool has_picked = false;
  const auto append_top = [&](const engine::TokenLogprob& top) {
    if (tops_.back() != '{') tops_ += ',';
    append_json_string(tops_, completion_token_name(top.bytes));
    tops_ += ':';
    append_json_number(tops_, top.logprob);
  };
  for (const engine::TokenLogprob& top : token.top) {
    append_top(top);
    has_picked |= top.token == token.picked.token;
  }
  if (!has_picked) append_top(token.picked);
  tops_ += '}';
}

void CompletionLogprobs::add(std::span<const engine::TokenInfo> tokens) {
  for (const engine::TokenInfo& token : tokens) {
    add_token(token);
    offset_characters_ += count_characters(token.picked.bytes);
  }
}

CompletionLogprobs::CompletionLogprobs(std::string_view text, const engine::TokenLogprob& first,
                                       std::span<const engine::TokenInfo> tokens) {
  std::string_view rest = text;
  add_name(first.bytes);
  logprobs_ += "null";
  tops_ += "null";
  offset_characters_ += count_characters(take_shown(rest, first.bytes, /*at_start=*/true));
  for (const engine::TokenInfo& token : tokens) {
    const bool at_start = rest.size() == text.size();
    add_token(token);
    offset_characters_ += count_characters(take_shown(rest, token.picked.bytes, at_start));
  }
  offset_characters_ += count_characters(rest);
}

void CompletionLogprobs::begin_with(std::shared_ptr<const CompletionLogprobs> prompt) {
  offset_characters_ = prompt->offset_characters_;
  prompt_ = std::move(prompt);
}

void CompletionLogprobs::append_and_clear(std::string& out) {
  constexpr std::pair<std::string_view, std::string CompletionLogprobs::*> lists[] = {
      {"{\"tokens\":[", &CompletionLogprobs::tokens_},
      {"],\"token_logprobs\":[", &CompletionLogprobs::logprobs_},
      {"],\"top_logprobs\":[", &CompletionLogprobs::tops_},
      {"],\"text_offset\":[", &CompletionLogprobs::offsets_}};
  for (const auto& [opening, list] : lists) {
    out += opening;
    if (prompt_ != nullptr) out += *prompt_.*list;
    if (prompt_ != nullptr && !(this->*list).empty()) out += ',';
    out += this->*list;
    (this->*list).clear();
  }
  out += "]}";
  prompt_.reset();
}

}  // namespace ridge::api
