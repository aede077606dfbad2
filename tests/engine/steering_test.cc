// What binds an answer, seen from outside: a model that wants to write something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "engine/loop_fixture.h"
#include "text/grammar.h"
#include "text/tool_grammar.h"

namespace ridge::engine::steering_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using text::GrammarKind;

std::shared_ptr<const text::Grammar> grammar(GrammarKind kind, std::string_view source) {
  static text::GrammarCompiler compiler(*small_tokenizer(), {.limit = std::chrono::minutes(2)});
  return compiler.compile("", kind, source);
}

int tokens_of(std::string_view text) {
  return static_cast<int>(small_tokenizer()->encode(text, {.add_special = false}).size());
}

TEST(Steering, AnAnswerIsInTheFormOfItsGrammar) {
  LoopFixture f(roomy, "The river is brown.");
  Request request = f.request(5, 100);
  request.grammar = grammar(GrammarKind::regex, "[0-9]{3} (The|river) x");
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_TRUE(std::regex_match(r.content[0], std::regex("[0-9]{3} (The|river) x"))) << r.content[0];
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
}

// A model that wants to end is not let go before the text is complete, nor kept behind it.
TEST(Steering, AnAnswerEndsWhereTheGrammarDoes) {
  for (const bool ignores : {false, true}) {
    LoopFixture f(roomy, "");
    Request request = f.request(5, 100);
    request.grammar = grammar(GrammarKind::json_schema,
                              R"({"type": "object", "properties": {"a": {"const": 1}},
                                  "required": ["a"], "additionalProperties": false})");
    request.min_tokens = 90;
    request.ignore_eos = ignores;
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_EQ(nlohmann::json::parse(r.content[0]), nlohmann::json({{"a", 1}}));
    EXPECT_EQ(r.reasons[0], FinishReason::stop);
  }
}

TEST(Steering, MinTokensHoldWhereTheGrammarCanGoOn) {
  LoopFixture f(roomy, "");
  Request request = f.request(5, 100);
  request.grammar = grammar(GrammarKind::regex, "[a-z]+");
  request.min_tokens = 20;
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_EQ(r.finish->usage.completion_tokens, 21) << "and the end";
}

TEST(Steering, ACutOffAnswerSaysSo) {
  LoopFixture f(roomy, "");
  Request request = f.request(5, 3);
  request.grammar = grammar(GrammarKind::regex, "[a-z]{200}");
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_EQ(r.reasons[0], FinishReason::length);
}

TEST(Steering, BiasAndStopSequencesApplyWithinTheGrammar) {
  LoopFixture f(roomy, "");
  Request request = f.request(5, 100);
  request.grammar = grammar(GrammarKind::regex, "(yes|no), because [a-z]+");
  request.sampling.logit_bias = {{small_tokenizer()->encode("no", {.add_special = false})[0], 50.f},
                                 {small_tokenizer()->encode("x", {.add_special = false})[0], 90.f}};
  request.stop = {"because"};
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_EQ(r.content[0], "no, ");
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
}

TEST(Steering, TheGrammarBeginsWhereTheThinkingEnds) {
  for (const std::string_view script : {"I think.\n</think>\n\nThe river", "I think.</think>The"}) {
    LoopFixture f(roomy, script);
    Request request = f.request(5, 200);
    request.split_reasoning = true;
    request.prompt_opens_reasoning = true;
    request.grammar = grammar(GrammarKind::regex, "\n?[0-9]{4}");
    request.stop = {"k>x"};  // holds the text back, and not the grammar
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_THAT(r.reasoning[0], StartsWith("I think."));
    EXPECT_TRUE(std::regex_match(r.content[0], std::regex("\n?[0-9]{4}"))) << r.content[0];
    EXPECT_EQ(r.reasons[0], FinishReason::stop);
  }
}

TEST(Steering, ThinkingIsNoWayAroundTheGrammar) {
  LoopFixture f(roomy, "I think and stop");  // and then wants to end
  Request request = f.request(5, 40);
  request.split_reasoning = true;
  request.prompt_opens_reasoning = true;
  request.grammar = grammar(GrammarKind::regex, "[0-9]{4}");
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_EQ(r.content[0], "");
  EXPECT_EQ(r.reasons[0], FinishReason::length);
}

TEST(Steering, AModelThatMayThinkAndDoesNotIsBoundFromTheStart) {
  LoopFixture f(roomy, "The river");
  Request request = f.request(5, 40);
  request.split_reasoning = true;
  request.grammar = grammar(GrammarKind::regex, "<[0-9]{4}");
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_TRUE(std::regex_match(r.content[0], std::regex("<[0-9]{4}"))) << r.content[0];
}

TEST(Steering, AGrammarThatFailsFailsTheAnswer) {
  LoopFixture f(roomy, "", /*then_ends=*/false);
  Request request = f.request(5, 400);
  request.grammar = grammar(GrammarKind::lark, "start: a\na: a a | \"a\" | \"b\" | a a a");
  const RecordedRequest& failed = f.add(std::move(request));
  const RecordedRequest& other = f.add(f.request(5, 300));
  f.run_all();
  EXPECT_EQ(failed.reasons[0], FinishReason::failed);
  ASSERT_TRUE(failed.finish->error);
  EXPECT_EQ(failed.finish->error->code(), ErrorCode::invalid_argument);
  EXPECT_THAT(std::string(failed.finish->error->message()), HasSubstr("grammar"));
  EXPECT_EQ(failed.content[0].find_first_not_of("ab"), std::string::npos);
  EXPECT_EQ(other.reasons[0], FinishReason::length);
}

TEST(Steering, ASpentBudgetEndsTheThinking) {
  const std::string thoughts = "The river is brown and the river is long and the river";
  for (const int budget : {0, 4}) {
    LoopFixture f(roomy, thoughts);
    Request request = f.request(5, 100);
    request.split_reasoning = true;
    request.prompt_opens_reasoning = true;
    request.thinking_budget = budget;
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    const int forced = tokens_of("\n</think>\n\n");
    EXPECT_EQ(r.finish->usage.reasoning_tokens, budget + forced);
    EXPECT_LT(r.reasoning[0].size(), 20u);
    EXPECT_EQ(r.content[0].find("think"), std::string::npos) << r.content[0];
    EXPECT_NE(r.content[0], "") << "the model goes on, now with its answer";
    EXPECT_EQ(r.reasons[0], FinishReason::stop);
  }
}

TEST(Steering, ABudgetThatIsNotSpentChangesNothing) {
  LoopFixture f(roomy, "Short.</think>Done.");
  Request request = f.request(5, 100);
  request.split_reasoning = true;
  request.prompt_opens_reasoning = true;
  request.thinking_budget = 50;
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_EQ(r.reasoning[0], "Short.");
  EXPECT_EQ(r.content[0], "Done.");
}

TEST(Steering, AnswerNowEndsTheThinkingOfARunningRequest) {
  LoopFixture f(roomy, "", /*then_ends=*/false);
  Request request = f.request(5, 60);
  request.split_reasoning = true;
  request.prompt_opens_reasoning = true;
  request.choices = 2;
  const RecordedRequest& r = f.add(std::move(request));
  for (int i = 0; i < 10; ++i) f.loop.step();
  EXPECT_NE(r.reasoning[0], "");
  f.loop.end_thinking(RequestId{1});
  f.loop.end_thinking(RequestId{77});  // nobody
  f.run_all();
  for (const int choice : {0, 1}) {
    EXPECT_LT(r.reasoning.at(static_cast<size_t>(choice)).size(), 20u);
    EXPECT_GT(r.content.at(static_cast<size_t>(choice)).size(), 20u);
  }
}

// Within a call nothing is thinking, whatever the arguments say.
TEST(Steering, ABudgetLeavesArgumentsAlone) {
  const std::string call =
      R"(<tool_call>{"name": "f", "arguments": {"text": "<think>one two three four five"}}</tool_call>)";
  LoopFixture f(roomy, "I.</think>" + call);
  Request request = f.request(5, 200);
  request.split_reasoning = true;
  request.prompt_opens_reasoning = true;
  request.thinking_budget = 12;
  request.tools = ToolUse{.style = text::ToolStyle::hermes, .tools = {{"f", {}}}};
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  ASSERT_EQ(r.calls[0].size(), 1u);
  EXPECT_EQ(r.calls[0][0].arguments, R"({"text": "<think>one two three four five"})");
  EXPECT_EQ(r.reasons[0], FinishReason::tool_calls);
}

TEST(Steering, CallsAreTakenFromTheText) {
  const std::string call = R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)";
  for (const bool parallel : {true, false}) {
    LoopFixture f(roomy, "First. " + call + "\n" + call);
    Request request = f.request(5, 200);
    request.tools = ToolUse{.style = text::ToolStyle::hermes, .tools = {{"f", {}}}, .parallel = parallel};
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_EQ(r.content[0], "First.");
    EXPECT_EQ(r.calls[0].size(), parallel ? 2u : 1u);
    EXPECT_EQ(r.reasons[0], FinishReason::tool_calls);
  }
}

TEST(Steering, ACallThatBeginsFitsItsSchema) {
  const std::vector<text::ToolFunction> functions = {
      {"f",
       R"({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 1}},
                "required": ["n"], "additionalProperties": false})",
       true}};
  LoopFixture f(roomy, R"(Ok. <tool_call>{"name": "g", "arguments": {"x": null}}</tool_call> bye)");
  Request request = f.request(5, 200);
  const text::GrammarSource source =
      text::one_call(text::ToolStyle::hermes, *small_tokenizer(), functions);
  request.tools = ToolUse{.style = text::ToolStyle::hermes,
                          .tools = {{"f", {}}},
                          .parallel = true,
                          .call_grammar = grammar(source.kind, source.text)};
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  EXPECT_THAT(r.content[0], StartsWith("Ok."));
  ASSERT_GE(r.calls[0].size(), 1u);
  EXPECT_EQ(r.calls[0][0].name, "f");
  const int n = nlohmann::json::parse(r.calls[0][0].arguments).at("n");
  EXPECT_TRUE(n >= 1 && n <= 9);
}

// Guesses change how fast an answer comes, and nothing else.
TEST(Steering, GuessesMeetGrammarsBudgetsAndCalls) {
  const auto answer = [](const RunnerLimits& limits, int variant) {
    const std::string line = R"({"name": "Ada", "age": 36}, )";
    LoopFixture f(limits, "So.\n</think>[" + line + line + line + line + line + line + "{}]");
    f.runner.before_step = [&](const StepInputs&) {
      f.clock.advance(std::chrono::milliseconds(1));
    };
    Request request = f.request(5, 200);
    request.split_reasoning = true;
    request.prompt_opens_reasoning = true;
    if (variant == 0) request.thinking_budget = 2;
    if (variant != 0) {
      request.grammar = grammar(
          GrammarKind::json_schema,
          variant == 1 ? R"({"type": "array", "items": {"type": "object"}, "maxItems": 7})"
                       : R"({"type": "array", "items": {"type": "integer"}, "maxItems": 9})");
    }
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    if (limits.outputs > limits.sequences && variant == 1) {
      EXPECT_GT(f.loop.stats().accepted_tokens_total, 0u) << r.content[0];
    }
    return r.reasoning[0] + "|" + r.content[0];
  };
  for (const int variant : {0, 1, 2}) EXPECT_EQ(answer(wide, variant), answer(roomy, variant));
}

}  // namespace
}  // namespace ridge::engine::steering_test
