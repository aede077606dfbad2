#include "engine/step_loop.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/loop_fixture.h"

namespace ridge::engine::step_loop_test {
namespace {

using std::chrono::milliseconds;

int tokens_of(std::string_view text) {
  return static_cast<int>(small_tokenizer()->encode(text).size());
}

TEST(StepLoop, AnswersAndEndsAtTheEndOfGeneration) {
  LoopFixture f(roomy_limits, "The river is brown.");
  RecordedRequest& r = f.add(f.request(5, 100));
  f.run_all();
  ASSERT_TRUE(r.finish);
  EXPECT_EQ(r.content[0], "The river is brown.");
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
  EXPECT_EQ(r.finish->usage.prompt_tokens, 5);
  EXPECT_EQ(r.finish->usage.completion_tokens, tokens_of("The river is brown.") + 1);
  EXPECT_EQ(r.token_counts[0], r.finish->usage.completion_tokens);
  EXPECT_FALSE(r.finish->error);
  EXPECT_GT(r.deltas, 2) << "text streams while it is made";
}

TEST(StepLoop, EndsWithLengthAtMaxTokens) {
  LoopFixture f(roomy_limits, "", /*then_ends=*/false);
  RecordedRequest& r = f.add(f.request(5, 3));
  f.run_all();
  EXPECT_EQ(r.reasons[0], FinishReason::length);
  EXPECT_EQ(r.content[0], "aaa");
  EXPECT_EQ(r.finish->usage.completion_tokens, 3);
}

TEST(StepLoop, EndsWithLengthAtTheEndOfTheContext) {
  LoopFixture f(roomy_limits, "", /*then_ends=*/false);
  RecordedRequest& r = f.add(f.request(120, 1000));
  RecordedRequest& last = f.add(f.request(127, 1000));
  f.run_all();
  EXPECT_EQ(r.reasons[0], FinishReason::length);
  EXPECT_EQ(r.finish->usage.completion_tokens, 8);
  EXPECT_EQ(last.finish->usage.completion_tokens, 1) << "the longest prompt still gets one token";
}

TEST(StepLoop, CutsTheTextAtAStopSequence) {
  LoopFixture f(roomy_limits, "one two STOP three");
  Request request = f.request(5, 100);
  request.stop = {" STOP"};
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.content[0], "one two");
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
  EXPECT_LT(r.finish->usage.completion_tokens, tokens_of("one two STOP three"));
}

TEST(StepLoop, GivesOutWhatOnlyLookedLikeAStopSequence) {
  LoopFixture f(roomy_limits, "one two ST");
  Request request = f.request(5, 100);
  request.stop = {" STOP"};
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.content[0], "one two ST");
}

TEST(StepLoop, StopSequencesDoNotEndAnAnswerBeforeMinTokens) {
  LoopFixture f(roomy_limits, "STOP and more STOP then");
  Request request = f.request(5, 100);
  request.stop = {"STOP"};
  request.min_tokens = tokens_of("STOP and");
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.content[0], "STOP and more ");
}

TEST(StepLoop, TheModelCannotEndBeforeMinTokens) {
  LoopFixture f(roomy_limits, "ab");
  Request request = f.request(5, 30);
  request.min_tokens = 12;
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.reasons[0], FinishReason::stop);
  EXPECT_EQ(r.finish->usage.completion_tokens, 13) << "twelve tokens and the end";
}

TEST(StepLoop, IgnoreEosGoesOnToMaxTokens) {
  LoopFixture f(roomy_limits, "ab");
  Request request = f.request(5, 20);
  request.ignore_eos = true;
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.reasons[0], FinishReason::length);
  EXPECT_EQ(r.finish->usage.completion_tokens, 20);
  EXPECT_EQ(r.content[0], "ab") << "control tokens have no text";
}

TEST(StepLoop, SplitsReasoningFromContent) {
  LoopFixture f(roomy_limits, "I think so.</think>Yes.");
  Request request = f.request(5, 100);
  request.split_reasoning = true;
  request.prompt_opens_reasoning = true;
  RecordedRequest& r = f.add(request);
  f.run_all();
  EXPECT_EQ(r.reasoning[0], "I think so.");
  EXPECT_EQ(r.content[0], "Yes.");
  EXPECT_GE(r.finish->usage.reasoning_tokens, tokens_of("I think so."));
  EXPECT_LT(r.finish->usage.reasoning_tokens, r.finish->usage.completion_tokens);
}

TEST(StepLoop, LogprobsComeWithEveryTokenOfTheText) {
  LoopFixture f(roomy_limits, "one two");
  Request request = f.request(5, 100);
  request.sampling.top_logprobs = 2;
  RecordedRequest& r = f.add(request);
  f.run_all();
  ASSERT_EQ(static_cast<int>(r.tokens[0].size()), tokens_of("one two"));
  std::string text;
  for (const TokenInfo& info : r.tokens[0]) {
    text += info.picked.bytes;
    ASSERT_EQ(info.top.size(), 2u);
    EXPECT_EQ(info.top[0].token, info.picked.token);
    EXPECT_EQ(info.top[0].logprob, info.picked.logprob);
    EXPECT_GT(info.top[0].logprob, info.top[1].logprob);
  }
  EXPECT_EQ(text, "one two");
}

TEST(StepLoop, ChoicesShareThePromptAndCountItOnce) {
  LoopFixture f(roomy_limits, "same");
  Request request = f.request(21, 100);
  request.choices = 3;
  int computed_tokens = 0;
  f.runner.before_step = [&](const StepInputs& inputs) { computed_tokens += inputs.tokens(); };
  RecordedRequest& r = f.add(request);
  f.run_all();
  for (int choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(r.content[static_cast<size_t>(choice)], "same");
    EXPECT_EQ(r.reasons[static_cast<size_t>(choice)], FinishReason::stop);
  }
  const int answer_tokens = tokens_of("same") + 1;
  EXPECT_EQ(r.finish->usage.prompt_tokens, 21);
  EXPECT_EQ(r.finish->usage.completion_tokens, 3 * answer_tokens);
  // Five whole blocks of the prompt are shared; only its last token is computed again.
  EXPECT_EQ(computed_tokens, 21 + 3 * (answer_tokens - 1));
}

TEST(StepLoop, ChoicesOfOneSeedDifferAndRepeat) {
  std::vector<std::string> runs;
  for (int run = 0; run < 2; ++run) {
    LoopFixture f(roomy_limits);
    f.runner.after_step = [](const StepInputs&, std::vector<float>& logits) {
      std::fill(logits.begin(), logits.end(), 0.0f);
    };
    Request request = f.request(6, 12);
    request.choices = 2;
    request.ignore_eos = true;
    request.sampling.temperature = 1.0f;
    request.sampling.seed = 11;
    RecordedRequest& r = f.add(request);
    f.run_all();
    EXPECT_NE(r.content[0], r.content[1]);
    runs.push_back(r.content[0] + "\n" + r.content[1]);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST(StepLoop, CancelFreesBlocksAtOnceAndEndsOnce) {
  LoopFixture f(roomy_limits, "", /*then_ends=*/false);
  RecordedRequest& r = f.add(f.request(10, 100));
  RecordedRequest& other = f.add(f.request(10, 4));
  f.loop.step();
  f.loop.step();
  EXPECT_LT(f.loop.stats().blocks_free, 128);
  f.loop.cancel(RequestId{1});
  f.loop.cancel(RequestId{1});
  f.loop.cancel(RequestId{99});
  ASSERT_TRUE(r.finish);
  EXPECT_EQ(r.reasons[0], FinishReason::cancelled);
  EXPECT_FALSE(r.finish->error);
  EXPECT_EQ(r.finish->usage.completion_tokens, 2);
  EXPECT_EQ(r.finish->usage.prompt_tokens, 10);
  f.run_all();
  EXPECT_EQ(other.reasons[0], FinishReason::length);
}

TEST(StepLoop, CancelEndsWhatWasNeverScheduled) {
  LoopFixture f(roomy_limits);
  Request request = f.request(10, 100);
  request.choices = 4;
  RecordedRequest& r = f.add(request);
  f.loop.cancel(RequestId{1});
  ASSERT_TRUE(r.finish);
  EXPECT_EQ(r.finish->reasons, std::vector<FinishReason>(4, FinishReason::cancelled));
  EXPECT_EQ(r.finish->usage.prompt_tokens, 0);
  EXPECT_FALSE(f.loop.has_work());
}

TEST(StepLoop, AFailedStepEndsItsRequestsAndTheLoopLivesOn) {
  LoopFixture f(roomy_limits, "fine");
  f.runner.before_step = [&](const StepInputs&) {
    if (f.runner.steps == 2) throw Error(ErrorCode::io, "the device is on fire");
  };
  RecordedRequest& first = f.add(f.request(5, 100));
  RecordedRequest& second = f.add(f.request(5, 100));
  f.run_all();
  for (RecordedRequest* r : {&first, &second}) {
    ASSERT_TRUE(r->finish);
    EXPECT_EQ(r->reasons[0], FinishReason::failed);
    ASSERT_TRUE(r->finish->error);
    EXPECT_EQ(r->finish->error->code(), ErrorCode::io);
    EXPECT_EQ(r->finish->error->message(), "the device is on fire");
  }
  RecordedRequest& third = f.add(f.request(5, 100));
  f.run_all();
  EXPECT_EQ(third.content[0], "fine");
}

// A store whose blocks the device does not give out.
TEST(StepLoop, WhatCannotBePlannedEndsInsteadOfBeingTriedForEver) {
  RunnerLimits limits = roomy_limits;
  limits.blocks = 32;
  FakeClock clock;
  FakeRunner runner(limits, small_tokenizer()->vocab_size(), [](const auto&) { return 20; });
  StepLoop loop(runner, small_tokenizer(), clock, {.spill = {.budget_bytes = 1 << 20}});
  std::vector<Finish> ends;
  const auto ask = [&](int32_t token) {
    Request request;
    request.prompt_tokens.assign(100, token);
    request.max_tokens = 2;
    loop.add(RequestId{static_cast<uint64_t>(token)}, std::move(request),
             {.on_finish = [&](const Finish& finish) { ends.push_back(finish); }}, clock.now());
    for (int i = 0; loop.has_work() && i < 100; ++i) loop.step();
  };
  ask(30);
  runner.before_export = [] { throw Error(ErrorCode::io, "the bus is broken"); };
  ask(31);
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_FALSE(ends[0].error);
  ASSERT_TRUE(ends[1].error);
  EXPECT_EQ(ends[1].error->message(), "the bus is broken");
  EXPECT_FALSE(loop.has_work());
  runner.before_export = nullptr;
  ask(32);
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_FALSE(ends[2].error) << "the loop lives on";
}

TEST(StepLoop, BadLogitsFailOnlyTheirOwnRequest) {
  LoopFixture f(roomy_limits, "fine");
  f.runner.after_step = [&](const StepInputs& inputs, std::vector<float>& logits) {
    if (f.runner.steps == 2 && inputs.outputs() == 2) {
      logits[3] = std::numeric_limits<float>::quiet_NaN();
    }
  };
  RecordedRequest& first = f.add(f.request(5, 100));
  RecordedRequest& second = f.add(f.request(5, 100));
  f.run_all();
  EXPECT_EQ(first.reasons[0], FinishReason::failed);
  ASSERT_TRUE(first.finish->error);
  EXPECT_EQ(first.finish->error->code(), ErrorCode::internal);
  EXPECT_EQ(second.reasons[0], FinishReason::stop);
  EXPECT_EQ(second.content[0], "fine");
}

TEST(StepLoop, BadLogitsOfOneChoiceEndItsRequestOnce) {
  LoopFixture f(roomy_limits, "fine");
  f.runner.after_step = [&](const StepInputs& inputs, std::vector<float>& logits) {
    if (inputs.outputs() == 3) logits[3] = std::numeric_limits<float>::infinity();
  };
  Request request = f.request(9, 100);
  request.choices = 3;
  RecordedRequest& r = f.add(request);
  f.run_all();
  ASSERT_TRUE(r.finish);
  EXPECT_EQ(r.finish->reasons, std::vector<FinishReason>(3, FinishReason::failed));
}

TEST(StepLoop, AThrowingListenerHurtsNobody) {
  LoopFixture f(roomy_limits, "fine");
  RequestListener bad;
  bad.on_delta = [](Delta&&) { throw std::runtime_error("oops"); };
  f.loop.add(RequestId{50}, f.request(5, 100), bad, f.clock.now());
  RecordedRequest& r = f.add(f.request(5, 100));
  f.run_all();
  EXPECT_EQ(r.content[0], "fine");
}

TEST(StepLoop, MeasuresQueueFirstTokenAndDuration) {
  LoopFixture f({.tokens = 4,
                 .sequences = 1,
                 .outputs = 1,
                 .context_tokens = 64,
                 .block_tokens = 4,
                 .blocks = 16},
                "", /*then_ends=*/false);
  f.runner.before_step = [&](const StepInputs&) { f.clock.advance(milliseconds(10)); };
  RecordedRequest& first = f.add(f.request(4, 3));
  RecordedRequest& second = f.add(f.request(8, 2));
  f.run_all();
  EXPECT_DOUBLE_EQ(first.finish->usage.queue_ms, 0);
  EXPECT_DOUBLE_EQ(first.finish->usage.ttft_ms, 10);
  EXPECT_DOUBLE_EQ(first.finish->usage.duration_ms, 30);
  EXPECT_DOUBLE_EQ(second.finish->usage.queue_ms, 30);
  EXPECT_DOUBLE_EQ(second.finish->usage.ttft_ms, 50);
  EXPECT_DOUBLE_EQ(second.finish->usage.duration_ms, 60);
}

TEST(StepLoop, CountsWhatItDid) {
  LoopFixture f(roomy_limits, "", /*then_ends=*/false);
  f.add(f.request(5, 3));
  f.add(f.request(6, 4));
  EXPECT_EQ(total(f.loop.never_scheduled()), 2);
  EXPECT_EQ(f.loop.stats().waiting, 2);
  f.loop.step();
  EXPECT_EQ(total(f.loop.never_scheduled()), 0);
  EXPECT_EQ(f.loop.stats().running, 2);
  f.run_all();
  const EngineStats stats = f.loop.stats();
  EXPECT_EQ(stats.prompt_tokens_total, 11u);
  EXPECT_EQ(stats.generated_tokens_total, 7u);
  EXPECT_EQ(stats.finished_total, 2u);
  EXPECT_EQ(stats.steps_total, 4u);
  EXPECT_EQ(stats.block_tokens, f.runner.limits().block_tokens);
  // Both prompts, twice the last token of both answers, then the longer one's.
  EXPECT_EQ(stats.step_tokens.sum, 11 + 2 + 2 + 1);
  EXPECT_EQ(stats.running + stats.waiting, 0);
}

TEST(StepLoop, ADeadlineThatPassesEndsTheRequestAsTimedOut) {
  LoopFixture f(roomy_limits, "", /*then_ends=*/false);
  Request request = f.request(5, 100);
  request.deadline = milliseconds(50);
  RecordedRequest& r = f.add(request);
  f.loop.step();
  f.loop.step();
  EXPECT_FALSE(r.finish);
  f.clock.advance(milliseconds(50));
  f.loop.step();
  ASSERT_TRUE(r.finish);
  ASSERT_TRUE(r.finish->error);
  EXPECT_EQ(r.finish->error->code(), ErrorCode::timed_out);
  EXPECT_EQ(r.content[0], "aa") << "what there was is told";
  EXPECT_EQ(f.loop.stats().blocks_free, f.loop.stats().blocks_total);
}

TEST(StepLoop, ASecondPromptOfTheGroupReportsWhatItFoundInTheCache) {
  LoopFixture f(roomy_limits, "yes");
  const Request request = f.request(41, 10);
  f.add(request);
  f.run_all();
  RecordedRequest& again = f.add(request);
  f.run_all();
  EXPECT_EQ(again.finish->usage.cached_tokens, 40);
  EXPECT_EQ(again.content[0], "yes");
  Request other = request;
  other.group = "other";
  RecordedRequest& foreign = f.add(other);
  f.run_all();
  EXPECT_EQ(foreign.finish->usage.cached_tokens, 0) << "another group's prompts are its own";
}

TEST(StepLoop, EachAdapterHasPrefixesOfItsOwn) {
  LoopFixture f(roomy_limits, "yes");
  for (const int adapter : {-1, 0, 1}) {
    Request request = f.request(41, 10);
    request.prompt_tokens.assign(41, 7);
    request.adapter = adapter;
    RecordedRequest& first = f.add(request);
    f.run_all();
    EXPECT_EQ(first.finish->usage.cached_tokens, 0) << "adapter " << adapter;
    RecordedRequest& again = f.add(request);
    f.run_all();
    EXPECT_EQ(again.finish->usage.cached_tokens, 40) << "adapter " << adapter;
  }
  // Neither name can be taken for the other's.
  Request forged = f.request(41, 10);
  forged.prompt_tokens.assign(41, 7);
  forged.group = "0:";
  RecordedRequest& other = f.add(forged);
  f.run_all();
  EXPECT_EQ(other.finish->usage.cached_tokens, 0);
}

TEST(StepLoop, TellsWhichAdaptersHaveRequests) {
  RunnerLimits limits = roomy_limits;
  limits.sequences = 1;
  LoopFixture f(limits, "a long answer");
  const auto ask = [&](int adapter) {
    Request request = f.request(5, 4);
    request.adapter = adapter;
    f.add(request);
  };
  ask(2);
  ask(-1);
  ask(0);
  f.loop.step();
  EngineStats stats = f.loop.stats();
  ASSERT_EQ(stats.adapters.size(), 3u);
  EXPECT_EQ(stats.adapters[2].running, 1);
  EXPECT_EQ(stats.adapters[2].waiting, 0);
  EXPECT_EQ(stats.adapters[0].running, 0);
  EXPECT_EQ(stats.adapters[0].waiting, 1);
  EXPECT_EQ(stats.adapters[1].running + stats.adapters[1].waiting, 0);
  Request more = f.request(5, 4);
  more.adapter = 0;
  stats.add_waiting(more);
  EXPECT_EQ(stats.adapters[0].waiting, 2);
  f.run_all();
  EXPECT_TRUE(f.loop.stats().adapters.empty());
}

TEST(StepLoop, OnlyThePromptIsScoredWhereNoTokenIsAskedFor) {
  LoopFixture f(roomy_limits, "yes");
  Request request = f.request(9, 0);
  request.prompt_logprobs = 2;
  request.choices = 2;
  RecordedRequest& r = f.add(request);
  f.run_all();
  ASSERT_TRUE(r.prompt);
  EXPECT_EQ(r.prompt->size(), 8u);
  EXPECT_EQ(r.prompt->front().top.size(), 2u);
  EXPECT_EQ(r.finish->usage.completion_tokens, 0);
  EXPECT_EQ(r.reasons[1], FinishReason::length);
}

}  // namespace
}  // namespace ridge::engine::step_loop_test
