#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace ridge::engine {

// What a request's listener was told, and that it was told in the right order.
struct RecordedRequest {
  explicit RecordedRequest(int choices)
      : content(static_cast<size_t>(choices)),
        reasoning(static_cast<size_t>(choices)),
        calls(static_cast<size_t>(choices)),
        tokens(static_cast<size_t>(choices)),
        token_counts(static_cast<size_t>(choices), 0),
        stop_sequences(static_cast<size_t>(choices)),
        reasons(static_cast<size_t>(choices)) {}

  RequestListener listener() {
    return {
        .on_prompt =
            [this](std::vector<TokenInfo>&& tokens) {
              EXPECT_FALSE(prompt || finish || deltas > 0);
              prompt = std::move(tokens);
            },
        .on_embedding =
            [this](std::vector<float>&& values) {
              EXPECT_FALSE(embedding || finish);
              embedding = std::move(values);
            },
        .on_delta =
            [this](Delta&& delta) {
              const auto choice = static_cast<size_t>(delta.choice);
              EXPECT_FALSE(finish) << "a delta after the end";
              EXPECT_FALSE(reasons.at(choice)) << "a delta after the choice's end";
              content.at(choice) += delta.pieces.content();
              reasoning.at(choice) += delta.reasoning;
              for (text::ToolCallPiece& piece : delta.pieces.calls()) {
                std::vector<text::ToolCallPiece>& known = calls.at(choice);
                EXPECT_EQ(piece.begins, piece.index == static_cast<int>(known.size()));
                if (piece.begins) {
                  known.push_back(std::move(piece));
                } else {
                  known.back().arguments += piece.arguments;
                }
              }
              token_counts.at(choice) += delta.token_count;
              stop_sequences.at(choice) += delta.stop_sequence;
              for (TokenInfo& info : delta.tokens) tokens.at(choice).push_back(std::move(info));
              ++deltas;
            },
        .on_choice_finish =
            [this](int choice, FinishReason reason) {
              EXPECT_FALSE(finish);
              EXPECT_FALSE(reasons.at(static_cast<size_t>(choice))) << "a choice ended twice";
              reasons.at(static_cast<size_t>(choice)) = reason;
            },
        .on_finish =
            [this](const Finish& value) {
              EXPECT_FALSE(finish) << "a request ended twice";
              for (size_t i = 0; i < reasons.size(); ++i)
                EXPECT_EQ(reasons[i], value.reasons.at(i));
              finish = value;
            },
    };
  }

  std::vector<std::string> content;
  std::vector<std::string> reasoning;
  std::vector<std::vector<text::ToolCallPiece>> calls;
  std::vector<std::vector<TokenInfo>> tokens;
  std::vector<int> token_counts;
  std::vector<std::string> stop_sequences;  // the one that ended each, if any
  std::vector<std::optional<FinishReason>> reasons;
  std::optional<Finish> finish;
  std::optional<std::vector<TokenInfo>> prompt;
  std::optional<std::vector<float>> embedding;
  int deltas = 0;
};

}  // namespace ridge::engine
