#include "server/kept_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace ridge::server::kept_exchange_test {
namespace {

using nlohmann::json;
using platform::KeptRequest;
using platform::KeptRequests;

AnswerEvent text_event(const std::string& content, int choice = 0,
                       const std::string& reasoning = "") {
  AnswerEvent event{.choice = choice};
  event.delta.reasoning = reasoning;
  if (!content.empty()) event.delta.pieces.add_content(content);
  return event;
}

AnswerEvent call_event(text::ToolCallPiece piece) {
  AnswerEvent event;
  event.delta.pieces.add_call(std::move(piece));
  return event;
}

AnswerEvent end_event(int choice = 0, engine::FinishReason reason = engine::FinishReason::stop) {
  return {.kind = AnswerEvent::Kind::finished, .choice = choice, .reason = reason};
}

TEST(KeptExchange, HasReasoningTextCallsAndEndOfEachChoice) {
  KeptExchange exchange({.prompt = "{}"});
  exchange.add(text_event("", 0, "hm, "));
  exchange.add(text_event("", 0, "yes"));
  exchange.add(text_event("汉"));
  exchange.add(text_event("other", 1));
  exchange.add(text_event("字"));
  exchange.add(call_event({.index = 0, .begins = true, .name = "look", .arguments = "{\"a\":"}));
  exchange.add(call_event({.index = 0, .arguments = "1}"}));
  exchange.add(call_event({.index = 1, .begins = true, .name = "sum", .arguments = "{}"}));
  exchange.add(end_event(0, engine::FinishReason::tool_calls));
  const KeptRequest kept = exchange.take("tool_calls");
  EXPECT_EQ(json::parse(kept.answer), json::parse(R"([
      {"reasoning":"hm, yes","content":"汉字","finish_reason":"tool_calls","tool_calls":[
         {"name":"look","arguments":"{\"a\":1}"},{"name":"sum","arguments":"{}"}]},
      {"content":"other","finish_reason":null}])"));
  EXPECT_EQ(kept.finish_reason, "tool_calls");
  EXPECT_FALSE(kept.prompt_is_cut || kept.answer_is_cut);
}

TEST(KeptExchange, HasNoVectors) {
  KeptExchange exchange({.prompt = "{}"});
  exchange.add({.kind = AnswerEvent::Kind::embedding, .embedding = {1, 2}});
  exchange.add(end_event());
  EXPECT_EQ(exchange.take("stop").answer, "[]");
}

TEST(KeptExchange, CutsALongPromptBetweenTwoCharacters) {
  const std::string most(KeptRequests::most_prompt_bytes - 1, 'x');
  EXPECT_FALSE(KeptExchange({.prompt = most + "y"}).take("stop").prompt_is_cut);
  const KeptRequest cut = KeptExchange({.prompt = most + "汉"}).take("stop");
  EXPECT_TRUE(cut.prompt_is_cut);
  EXPECT_EQ(cut.prompt, most);
}

TEST(KeptExchange, CutsALongAnswerWhereverItIsLong) {
  const std::string half(KeptRequests::most_answer_bytes / 2, 'x');
  const auto kept = [&](const std::vector<AnswerEvent>& events) {
    KeptExchange exchange({.prompt = "{}"});
    for (const AnswerEvent& event : events) exchange.add(event);
    exchange.add(end_event());
    const KeptRequest request = exchange.take("stop");
    EXPECT_TRUE(request.answer_is_cut);
    EXPECT_LE(request.answer.size(), KeptRequests::most_answer_bytes + 200);
    return json::parse(request.answer);
  };
  EXPECT_EQ(kept({text_event(half), text_event(half), text_event("never")})[0]["content"]
                .get<std::string>()
                .find("never"),
            std::string::npos);
  const json called =
      kept({text_event(half, 0, half),
            call_event({.index = 0, .begins = true, .name = "f", .arguments = half})});
  EXPECT_FALSE(called[0].contains("tool_calls")) << "there was no room for its name";
  EXPECT_EQ(called[0]["finish_reason"], "stop");
  const json arguments =
      kept({call_event({.index = 0, .begins = true, .name = "f", .arguments = half}),
            call_event({.index = 0, .arguments = half + "end"})});
  EXPECT_EQ(arguments[0]["tool_calls"].size(), 1u);
  // Many of little: what is no text counts too.
  std::vector<AnswerEvent> calls;
  for (int i = 0; i < 20'000; ++i)
    calls.push_back(call_event({.index = i, .begins = true, .name = "f"}));
  EXPECT_LT(kept(calls)[0]["tool_calls"].size(), 6'000u);
}

}  // namespace
}  // namespace ridge::server::kept_exchange_test
