// Answers in messages on channels, as gpt-oss writes them, seen from outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "engine/loop_fixture.h"
#include "text/grammar.h"
#include "text/harmony.h"
#include "text/tool_grammar.h"

namespace ridge::engine::harmony_steering_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using text::GrammarKind;
using text::GrammarSource;

// Of gpt-oss's kind.
std::shared_ptr<const text::Tokenizer> tokenizer() {
  static const auto tokenizer = text::Tokenizer::from_gguf(
      format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/gpt-oss-mxfp4.gguf"));
  return tokenizer;
}

std::shared_ptr<const text::Grammar> compiled(const GrammarSource& source) {
  static text::GrammarCompiler compiler(*tokenizer(), {.limit = std::chrono::minutes(2)});
  return compiler.compile("", source.kind, source.text);
}

// Content that is `form`, as chats ask for it.
std::shared_ptr<const text::Grammar> content_of(GrammarKind kind, std::string_view form) {
  return compiled(text::content_alone(*tokenizer(), {kind, std::string(form)}));
}

struct Fixture : LoopFixture {
  explicit Fixture(std::string_view script, const RunnerLimits& limits = roomy,
                   bool then_ends = true)
      : LoopFixture(limits, script, then_ends, tokenizer()) {}

  Request harmony_request(int max_tokens = 200) {
    Request request = LoopFixture::request(5, max_tokens);
    request.harmony = true;
    return request;
  }
};

constexpr std::string_view thought = "<|channel|>analysis<|message|>The river is brown.<|end|>";
constexpr std::string_view final_head = "<|start|>assistant<|channel|>final<|message|>";

std::string answer_of(std::string_view content) {
  return std::string(thought).append(final_head).append(content);
}

const std::string weather_call =
    "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>";

ToolUse tools(const std::vector<std::string>& names) {
  ToolUse use{.style = text::ToolStyle::harmony};
  for (const std::string& name : names) use.tools.push_back({name, {}});
  return use;
}

TEST(HarmonySteering, ReasoningAndContentComeApart) {
  Fixture f(answer_of("Hello."));
  const RecordedRequest& r = f.add(f.harmony_request());
  f.run_all();
  EXPECT_EQ(r.reasoning[0], "The river is brown.");
  EXPECT_EQ(r.content[0], "Hello.");
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
  EXPECT_EQ(r.finish->usage.reasoning_tokens,
            static_cast<int>(tokenizer()->encode("The river is brown.").size()) + 1);
}

// A message's end is not the turn's; a call's is, and nothing behind it is generated.
TEST(HarmonySteering, ACallEndsTheAnswer) {
  Fixture f(std::string(thought) + weather_call + R"({"a": 1}<|call|> and more)");
  Request request = f.harmony_request();
  request.tools = tools({"f"});
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  ASSERT_EQ(r.calls[0].size(), 1u);
  EXPECT_EQ(r.calls[0][0].name, "f");
  EXPECT_EQ(r.calls[0][0].arguments, R"({"a": 1})");
  EXPECT_EQ(r.content[0], "");
  EXPECT_EQ(r.reasons[0], FinishReason::tool_calls);
}

TEST(HarmonySteering, ASpentBudgetBeginsTheFinalMessage) {
  for (const int budget : {0, 3}) {
    const std::string thoughts = "one two three four five six seven eight nine ten";
    Fixture f(budget == 0 ? thoughts : "<|channel|>analysis<|message|>" + thoughts, roomy,
              /*then_ends=*/false);
    Request request = f.harmony_request(60);
    request.thinking_budget = budget;
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_LT(r.reasoning[0].size(), 20u) << r.reasoning[0];
    EXPECT_EQ(r.reasoning[0].empty(), budget == 0);
    EXPECT_NE(r.content[0], "") << "the model goes on, now with its answer";
    EXPECT_EQ(r.content[0].find("<|"), std::string::npos) << r.content[0];
    EXPECT_EQ(r.finish->usage.reasoning_tokens, budget == 0 ? 0 : budget + 1) << "and the end";
  }
}

// With tools at hand the message may be a call instead.
TEST(HarmonySteering, ASpentBudgetLeavesTheChoiceOfACall) {
  for (const std::string_view channel : {"final", "commentary"}) {
    Fixture f("<|channel|>analysis<|message|>one two three four five six seven eight nine ten",
              roomy, /*then_ends=*/false);
    Request request = f.harmony_request(60);
    request.thinking_budget = 3;
    request.tools = tools({"f"});
    request.sampling.logit_bias = {{tokenizer()->encode(channel).front(), 9.0f}};
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_NE(r.reasoning[0], "");
    // Behind the one, text begins; behind the other, the head goes on with whom the message is to.
    EXPECT_EQ(r.content[0].empty(), channel == "commentary") << r.content[0];
    EXPECT_EQ(r.reasons[0], FinishReason::length);
  }
}

TEST(HarmonySteering, AnswerNowEndsTheThinkingOfARunningRequest) {
  Fixture f("<|channel|>analysis<|message|>", roomy, /*then_ends=*/false);
  const RecordedRequest& r = f.add(f.harmony_request(80));
  for (int i = 0; i < 20; ++i) f.loop.step();
  EXPECT_NE(r.reasoning[0], "");
  EXPECT_EQ(r.content[0], "");
  f.loop.end_thinking(RequestId{1});
  f.run_all();
  EXPECT_GT(r.content[0].size(), 20u);
}

// A form binds the final message, whatever the model wanted to write; what it thinks is free.
TEST(HarmonySteering, AFormBeginsInTheFinalMessage) {
  const std::regex form("[0-9]{3} (The|river) x");
  for (const std::string& script :
       {answer_of("Hello."), std::string(thought), std::string("Hello."),
        std::string("<|channel|>final<|message|>The river"),
        std::string("<|channel|>commentary<|message|>I look.<|end|>"),
        std::string("<|channel|>analysis<|message|>Brown.<|start|>assistant")}) {
    for (const auto& limits : {roomy, wide}) {
      Fixture f(script, limits);
      f.runner.before_step = [&](const StepInputs&) {
        f.clock.advance(std::chrono::milliseconds(1));
      };
      Request request = f.harmony_request();
      request.grammar = content_of(GrammarKind::regex, "[0-9]{3} (The|river) x");
      request.thinking_budget = 30;  // the fake model, where it may not end, thinks on
      const RecordedRequest& r = f.add(std::move(request));
      f.run_all();
      EXPECT_TRUE(std::regex_match(r.content[0], form)) << script << " → " << r.content[0];
      EXPECT_EQ(r.reasons[0], FinishReason::stop);
      if (script.starts_with("<|channel|>analysis")) {
        EXPECT_NE(r.reasoning[0], "");
      }
    }
  }
}

TEST(HarmonySteering, AFormHoldsBehindASpentBudgetToo) {
  for (const int budget : {0, 3}) {
    Fixture f("<|channel|>analysis<|message|>one two three four five six seven eight nine ten");
    Request request = f.harmony_request();
    request.thinking_budget = budget;
    request.grammar = content_of(GrammarKind::json_schema,
                                 R"({"type": "object", "properties": {"a": {"const": 1}},
                                     "required": ["a"], "additionalProperties": false})");
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    EXPECT_EQ(nlohmann::json::parse(r.content[0]), nlohmann::json({{"a", 1}}));
    EXPECT_EQ(r.reasoning[0].empty(), budget == 0);
    EXPECT_EQ(r.reasons[0], FinishReason::stop);
  }
}

const std::vector<text::ToolFunction> functions = {
    {"f",
     R"({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 1}},
              "required": ["n"], "additionalProperties": false})",
     true}};

int n_of(const RecordedRequest& r) {
  EXPECT_EQ(r.calls[0].size(), 1u);
  if (r.calls[0].empty()) return 0;
  EXPECT_EQ(r.calls[0][0].name, "f");
  return nlohmann::json::parse(r.calls[0][0].arguments).at("n");
}

// tool_choice "required": behind the reasoning, or at once.
TEST(HarmonySteering, ACallThatMustBeMadeIsMade) {
  const GrammarSource source = text::whole_answer(text::ToolStyle::harmony, *tokenizer(), functions,
                                                  /*several=*/true, /*otherwise=*/nullptr);
  for (const std::string& script : {answer_of("Hello."), std::string("Hello.")}) {
    Fixture f(script);
    Request request = f.harmony_request();
    request.tools = tools({"f"});
    request.grammar = compiled(source);
    request.thinking_budget = 30;
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    const int n = n_of(r);
    EXPECT_TRUE(n >= 1 && n <= 9);
    EXPECT_EQ(r.content[0], "");
    EXPECT_EQ(r.reasons[0], FinishReason::tool_calls);
  }
}

TEST(HarmonySteering, ACallThatBeginsFitsItsSchema) {
  const GrammarSource source =
      text::one_call(text::ToolStyle::harmony, *tokenizer(), functions);
  Fixture f(std::string(thought) + weather_call + R"({"x": null}<|call|>)");
  Request request = f.harmony_request();
  request.tools = tools({"f"});
  request.tools->call_grammar = compiled(source);
  const RecordedRequest& r = f.add(std::move(request));
  f.run_all();
  const int n = n_of(r);
  EXPECT_TRUE(n >= 1 && n <= 9);
  EXPECT_EQ(r.reasons[0], FinishReason::tool_calls);
}

// Guesses change how fast an answer comes, and nothing else.
TEST(HarmonySteering, GuessesMeetBudgetsAndForms) {
  const auto answer = [](const RunnerLimits& limits, int variant) {
    const std::string line = R"({"name": "Ada", "age": 36}, )";
    Fixture f(answer_of("[" + line + line + line + line + line + "{}]"), limits);
    f.runner.before_step = [&](const StepInputs&) {
      f.clock.advance(std::chrono::milliseconds(1));
    };
    Request request = f.harmony_request(250);
    if (variant == 0) request.thinking_budget = 2;
    if (variant == 1) {
      request.grammar = content_of(GrammarKind::json_schema,
                                   R"({"type": "array", "items": {"type": "object"}, "maxItems": 6})");
    }
    const RecordedRequest& r = f.add(std::move(request));
    f.run_all();
    return r.reasoning[0] + "|" + r.content[0];
  };
  for (const int variant : {0, 1, 2}) EXPECT_EQ(answer(wide, variant), answer(roomy, variant));
}

}  // namespace
}  // namespace ridge::engine::harmony_steering_test
