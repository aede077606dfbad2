#include "api/parted_answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace ridge::api {

void PartedAnswer::add(int, const engine::Delta& delta, std::string& out) {
  extend(Kind::reasoning, delta.reasoning, {}, out);
  std::span<const engine::TokenInfo> tokens = delta.tokens;
  for (const text::AnswerPiece& next : delta.pieces) {
    if (const auto* content = std::get_if<std::string>(&next)) {
      extend(Kind::text, *content, std::exchange(tokens, {}), out);
      continue;
    }
    const auto& piece = std::get<text::ToolCallPiece>(next);
    if (piece.begins) open(Kind::call, piece.name, out);
    // A call without a name would be one that nobody made.
    RIDGE_ASSERT(is_open_ && parts_.back().kind == Kind::call);
    extend(Kind::call, piece.arguments, {}, out);
  }
  if (!delta.stop_sequence.empty()) stop_sequence_ = delta.stop_sequence;
}

void PartedAnswer::finish_choice(int, engine::FinishReason reason, std::string& out) {
  reason_ = reason;
  close(out);
}

void PartedAnswer::open(Kind kind, const std::string& name, std::string& out) {
  close(out);
  parts_.push_back({.kind = kind,
                    .index = parts_.size(),
                    .id = {},
                    .call_id = {},
                    .name = name,
                    .text = {},
                    .logprobs = {}});
  is_open_ = true;
  open_part(parts_.back(), out);
}

void PartedAnswer::extend(Kind kind, std::string_view piece,
                          std::span<const engine::TokenInfo> tokens, std::string& out) {
  if (piece.empty()) return;
  if (!is_open_ || parts_.back().kind != kind) open(kind, {}, out);
  parts_.back().text += piece;
  extend_part(parts_.back(), piece, tokens, out);
}

void PartedAnswer::close(std::string& out) {
  if (!is_open_) return;
  is_open_ = false;
  close_part(parts_.back(), out);
}

Json arguments_object(const std::string& text) {
  if (text.empty()) return Json::object();
  if (auto parsed = parse_json_object(text)) return std::move(*parsed);
  return {{"invalid_json", text}};
}

}  // namespace ridge::api
