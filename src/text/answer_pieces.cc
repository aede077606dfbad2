#include "text/answer_pieces.h"

#include <utility>

namespace ridge::text {

void AnswerPieces::add_content(std::string_view text) {
  if (text.empty()) return;
  if (pieces_.empty() || !std::holds_alternative<std::string>(pieces_.back())) {
    pieces_.emplace_back(std::string());
  }
  std::get<std::string>(pieces_.back()) += text;
}

void AnswerPieces::add_call(ToolCallPiece&& piece) {
  auto* last = pieces_.empty() ? nullptr : std::get_if<ToolCallPiece>(&pieces_.back());
  if (!piece.begins && last != nullptr && last->index == piece.index) {
    last->arguments += piece.arguments;
  } else {
    pieces_.emplace_back(std::move(piece));
  }
}

void AnswerPieces::append(AnswerPieces&& more) {
  for (AnswerPiece& piece : more.pieces_) {
    if (const auto* text = std::get_if<std::string>(&piece)) {
      add_content(*text);
    } else {
      add_call(std::move(std::get<ToolCallPiece>(piece)));
    }
  }
  more.pieces_.clear();
}

std::string AnswerPieces::content() const {
  std::string content;
  for (const AnswerPiece& piece : pieces_) {
    if (const auto* text = std::get_if<std::string>(&piece)) content += *text;
  }
  return content;
}

std::vector<ToolCallPiece> AnswerPieces::calls() const {
  std::vector<ToolCallPiece> calls;
  for (const AnswerPiece& piece : pieces_) {
    if (const auto* call = std::get_if<ToolCallPiece>(&piece)) calls.push_back(*call);
  }
  return calls;
}

}  // namespace ridge::text
