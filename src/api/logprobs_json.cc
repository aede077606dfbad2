#include "api/logprobs_json.h"

#include <fmt/format.h>

#include <iterator>

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

void CompletionLogprobs::add(std::span<const engine::TokenInfo> tokens) {
  for (const engine::TokenInfo& token : tokens) {
    for (std::string* list : {&tokens_, &logprobs_, &tops_, &offsets_}) separate(*list);
    append_json_string(tokens_, completion_token_name(token.picked.bytes));
    append_json_number(logprobs_, token.picked.logprob);
    fmt::format_to(std::back_inserter(offsets_), "{}", offset_characters_);
    offset_characters_ += count_characters(token.picked.bytes);
    tops_ += '{';
    for (std::size_t i = 0; i < token.top.size(); ++i) {
      if (i > 0) tops_ += ',';
      append_json_string(tops_, completion_token_name(token.top[i].bytes));
      tops_ += ':';
      append_json_number(tops_, token.top[i].logprob);
    }
    tops_ += '}';
  }
}

void CompletionLogprobs::append_and_clear(std::string& out) {
  fmt::format_to(
      std::back_inserter(out),
      "{{\"tokens\":[{}],\"token_logprobs\":[{}],\"top_logprobs\":[{}],\"text_offset\":[{}]}}",
      tokens_, logprobs_, tops_, offsets_);
  for (std::string* list : {&tokens_, &logprobs_, &tops_, &offsets_}) list->clear();
}

}  // namespace ridge::api
