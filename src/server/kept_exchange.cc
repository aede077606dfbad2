#include "server/kept_exchange.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/answer.h"
#include "api/json_text.h"

namespace ridge::server {
namespace {

using api::Json;
using platform::KeptRequests;

constexpr std::size_t bytes_of_choice = 100, bytes_of_call = 50;  // beside its texts, in JSON

// The beginning of a text, without part of a character.
std::string_view beginning(std::string_view utf8, std::size_t most_bytes) {
  if (utf8.size() <= most_bytes) return utf8;
  while (most_bytes > 0 && (utf8[most_bytes] & 0xc0) == 0x80) --most_bytes;
  return utf8.substr(0, most_bytes);
}

}  // namespace

KeptExchange::KeptExchange(platform::KeptRequest request) : request_(std::move(request)) {
  std::string& prompt = request_.prompt;
  const std::size_t kept = beginning(prompt, KeptRequests::most_prompt_bytes).size();
  request_.prompt_is_cut = kept < prompt.size();
  if (!request_.prompt_is_cut) return;
  prompt.resize(kept);
  prompt.shrink_to_fit();  // the answer may take long
}

void KeptExchange::append(std::string& to, std::string_view text) {
  const std::string_view fits = beginning(text, KeptRequests::most_answer_bytes - bytes_);
  to += fits;
  bytes_ += fits.size();
  request_.answer_is_cut |= fits.size() < text.size();
}

// Of the answer's JSON, what is not text counts too.
KeptExchange::Choice& KeptExchange::choice_of(int index) {
  const auto at = static_cast<std::size_t>(index);
  if (at >= choices_.size()) {
    bytes_ += std::min((at + 1 - choices_.size()) * bytes_of_choice,
                       KeptRequests::most_answer_bytes - bytes_);
    choices_.resize(at + 1);
  }
  return choices_[at];
}

void KeptExchange::add(const AnswerEvent& event) {
  has_vectors_ |= event.kind == AnswerEvent::Kind::embedding;
  if (event.kind == AnswerEvent::Kind::finished && !has_vectors_) {
    Choice& choice = choice_of(event.choice);
    if (engine::is_answer(event.reason)) {
      choice.finish_reason = api::openai_finish_reason(event.reason);
    }
  }
  if (event.kind != AnswerEvent::Kind::text || request_.answer_is_cut) return;
  Choice& choice = choice_of(event.choice);
  append(choice.reasoning, event.delta.reasoning);
  for (const text::AnswerPiece& next : event.delta.pieces) {
    if (const auto* content = std::get_if<std::string>(&next)) {
      append(choice.content, *content);
    } else {
      append(choice, std::get<text::ToolCallPiece>(next));
    }
    if (request_.answer_is_cut) return;
  }
}

void KeptExchange::append(Choice& choice, const text::ToolCallPiece& piece) {
  if (piece.begins || choice.calls.empty()) {
    request_.answer_is_cut = bytes_ + bytes_of_call > KeptRequests::most_answer_bytes;
    if (request_.answer_is_cut) return;
    bytes_ += bytes_of_call;
    append(choice.calls.emplace_back().name, piece.name);
  }
  append(choice.calls.back().arguments, piece.arguments);
}

platform::KeptRequest KeptExchange::take(std::string finish_reason) {
  Json answer = Json::array();
  for (Choice& choice : choices_) {
    Json entry = Json::object();
    if (!choice.reasoning.empty()) entry["reasoning"] = std::move(choice.reasoning);
    entry["content"] = std::move(choice.content);
    for (Call& call : choice.calls) {
      entry["tool_calls"].push_back(
          {{"name", std::move(call.name)}, {"arguments", std::move(call.arguments)}});
    }
    entry["finish_reason"] = api::or_null(choice.finish_reason);
    answer.push_back(std::move(entry));
  }
  request_.answer = api::to_text(answer);
  request_.finish_reason = std::move(finish_reason);
  return std::move(request_);
}

}  // namespace ridge::server
