#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/loop_fixture.h"
#include "engine/request_trace.h"

namespace ridge::engine::step_trace_test {
namespace {

using std::chrono::milliseconds;
using Kind = TraceEvent::Kind;

// A loop whose steps take a millisecond each, with requests whose traces are kept.
struct Traced : LoopFixture {
  explicit Traced(const RunnerLimits& limits) : LoopFixture(limits, "", /*then_ends=*/false) {
    runner.before_step = [this](const StepInputs&) { clock.advance(milliseconds(1)); };
  }

  std::shared_ptr<RequestTrace> trace(Request request) {
    request.trace = std::make_shared<RequestTrace>();
    auto trace = request.trace;
    add(std::move(request));
    return trace;
  }
};

// "queued admitted prefill …"
std::string kinds(const RequestTrace& trace) {
  std::string text;
  for (const TraceEvent& event : trace.snapshot().events) {
    text += (text.empty() ? "" : " ") + std::string(name(event.kind));
    if (event.kind == Kind::waiting || event.kind == Kind::preempted) {
      text += ":" + std::string(name(event.wait));
    }
  }
  return text;
}

std::vector<TraceEvent> of_kind(const RequestTrace& trace, Kind kind) {
  std::vector<TraceEvent> events = trace.snapshot().events;
  std::erase_if(events, [&](const TraceEvent& event) { return event.kind != kind; });
  return events;
}

TEST(StepTrace, FollowsARequestFromItsArrivalToItsEnd) {
  Traced f(roomy_limits);
  const auto start = f.clock.now();
  const auto trace = f.trace(f.request(70, 3));
  f.clock.advance(milliseconds(5));
  f.run_all();
  EXPECT_EQ(kinds(*trace), "queued admitted prefill prefill prefill first_token finished");
  const auto now = trace->snapshot();
  const auto& events = now.events;
  EXPECT_EQ(events[0].at, start);
  EXPECT_EQ(events[1].at, start + milliseconds(5));
  EXPECT_EQ(events[1].cached_tokens, 0);
  for (size_t chunk = 0; chunk < 3; ++chunk) {
    EXPECT_EQ(events[2 + chunk].first, 32 * static_cast<int>(chunk));
    EXPECT_EQ(events[2 + chunk].tokens, chunk < 2 ? 32 : 6);
    EXPECT_EQ(events[2 + chunk].at, start + milliseconds(5 + chunk));
    EXPECT_EQ(events[2 + chunk].step_ms, 1);
  }
  EXPECT_EQ(events[5].at, start + milliseconds(8));
  EXPECT_EQ(events[6].at, start + milliseconds(10));
  EXPECT_EQ(events[6].reason, FinishReason::length);
  EXPECT_EQ(events[6].tokens, 3);
  EXPECT_EQ(now.generated_tokens, 3);
}

TEST(StepTrace, SaysThatItWaitsForAPlace) {
  RunnerLimits limits = roomy_limits;
  limits.sequences = limits.outputs = 1;
  Traced f(limits);
  f.add(f.request(5, 4));
  const auto trace = f.trace(f.request(5, 1));
  f.run_all();
  EXPECT_EQ(kinds(*trace), "queued waiting:place admitted prefill first_token finished")
      << "and says it once";
}

TEST(StepTrace, SaysThatItWaitsForOthersPrompts) {
  Traced f(roomy_limits);
  f.add(f.request(60, 1));
  const auto trace = f.trace(f.request(30, 1));
  f.run_all();
  EXPECT_EQ(kinds(*trace), "queued waiting:turn admitted prefill prefill first_token finished");
}

TEST(StepTrace, SaysThatItWaitsForBlocks) {
  RunnerLimits limits = roomy_limits;
  limits.context_tokens = 64;
  limits.blocks = 16;
  Traced f(limits);
  f.add(f.request(40, 2));
  f.loop.step();
  const auto trace = f.trace(f.request(31, 1));
  f.run_all();
  EXPECT_EQ(kinds(*trace), "queued waiting:blocks admitted prefill first_token finished");
}

TEST(StepTrace, TellsWhoLostItsBlocksAndGotThemBack) {
  RunnerLimits limits = roomy_limits;
  limits.context_tokens = 64;
  limits.blocks = 16;
  Traced f(limits);
  f.add(f.request(20, 40));
  f.loop.step();
  const auto trace = f.trace(f.request(20, 30));
  f.run_all();
  const std::string all = kinds(*trace);
  EXPECT_TRUE(
      all.starts_with("queued admitted prefill first_token preempted:blocks resumed prefill"))
      << all;
  EXPECT_TRUE(all.ends_with("finished")) << all;
  EXPECT_GT(of_kind(*trace, Kind::preempted)[0].tokens, 1);
  EXPECT_GT(of_kind(*trace, Kind::resumed)[0].cached_tokens, 0) << "the prefix cache kept some";
}

TEST(StepTrace, TellsWhatCameFromThePrefixCacheAndFromTheSpill) {
  FakeClock clock;
  RunnerLimits limits = roomy_limits;
  limits.context_tokens = 64;
  limits.blocks = 16;
  FakeRunner runner(limits, small_tokenizer()->vocab_size(), [](const auto&) { return 30; });
  StepLoop loop(runner, small_tokenizer(), clock, {.spill = {.budget_bytes = 1 << 20}});
  uint64_t id = 0;
  const auto ask = [&](int32_t first) {
    Request request;
    request.prompt_tokens.assign(40, first);
    request.max_tokens = 1;
    request.trace = std::make_shared<RequestTrace>();
    auto trace = request.trace;
    loop.add(RequestId{++id}, std::move(request), {}, clock.now());
    while (loop.has_work()) loop.step();
    return of_kind(*trace, Kind::admitted).at(0);
  };
  EXPECT_EQ(ask(40).cached_tokens, 0);
  const TraceEvent again = ask(40);
  EXPECT_EQ(again.cached_tokens, 36);
  EXPECT_EQ(again.restored_blocks, 0);
  ask(41);  // there is room for one of them alone
  const TraceEvent later = ask(40);
  EXPECT_EQ(later.cached_tokens, 36);
  EXPECT_GT(later.restored_blocks, 0);
}

TEST(StepTrace, HasTheFirstTokenAndTheEndOfEachChoice) {
  Traced f(roomy_limits);
  Request request = f.request(5, 3);
  request.choices = 3;
  const auto trace = f.trace(std::move(request));
  f.run_all();
  for (const Kind kind : {Kind::admitted, Kind::first_token, Kind::finished}) {
    std::vector<int> choices;
    for (const TraceEvent& event : of_kind(*trace, kind)) choices.push_back(event.choice);
    std::ranges::sort(choices);
    EXPECT_EQ(choices, (std::vector<int>{0, 1, 2})) << name(kind);
  }
  EXPECT_EQ(trace->snapshot().generated_tokens, 9);
}

TEST(StepTrace, TellsThatItWasCancelledOrTooLate) {
  Traced f(roomy_limits);
  const auto cancelled = f.trace(f.request(5, 50));
  Request late = f.request(5, 50);
  late.deadline = milliseconds(3);
  const auto overdue = f.trace(std::move(late));
  f.loop.step();
  f.loop.cancel(RequestId{1});
  f.run_all();
  EXPECT_EQ(of_kind(*cancelled, Kind::finished).at(0).reason, FinishReason::cancelled);
  EXPECT_EQ(of_kind(*overdue, Kind::finished).at(0).reason, FinishReason::failed);
}

TEST(StepTrace, CountsTheGuessesThatTheLoopCounts) {
  FakeClock clock;
  RunnerLimits limits = roomy_limits;
  limits.outputs = 32;
  // What repeats itself but for every tenth token.
  FakeRunner runner(limits, small_tokenizer()->vocab_size(), [](const auto& context) {
    return context.size() % 10 == 0 ? 20 + static_cast<int32_t>(context.size()) : 30;
  });
  runner.before_step = [&](const StepInputs& inputs) {
    clock.advance(milliseconds(10) + inputs.tokens() * std::chrono::microseconds(10));
  };
  StepLoop loop(runner, small_tokenizer(), clock);
  Request request;
  request.prompt_tokens = {20, 21, 22};
  request.max_tokens = 100;
  request.trace = std::make_shared<RequestTrace>();
  const auto trace = request.trace;
  loop.add(RequestId{1}, std::move(request), {}, clock.now());
  while (loop.has_work()) loop.step();
  const auto now = trace->snapshot();
  EXPECT_GT(now.accepted_tokens, 3);
  EXPECT_GT(now.draft_tokens, now.accepted_tokens);
  EXPECT_EQ(static_cast<uint64_t>(now.draft_tokens), loop.stats().draft_tokens_total);
  EXPECT_GT(loop.stats().drafts_total, 0u);
  EXPECT_LE(loop.stats().drafts_total, loop.stats().draft_tokens_total);
  EXPECT_EQ(static_cast<uint64_t>(now.accepted_tokens), loop.stats().accepted_tokens_total);
}

TEST(RequestTrace, HoldsALongPromptInFewEvents) {
  RequestTrace trace;
  for (int i = 0; i < 1000; ++i) {
    trace.add({.kind = Kind::prefill, .first = 10 * i, .tokens = 10, .step_ms = 2});
  }
  const auto now = trace.snapshot();
  EXPECT_EQ(now.events.size(), RequestTrace::max_prefill_events);
  EXPECT_EQ(now.dropped_events, 0);
  int tokens = 0, steps = 0;
  for (const TraceEvent& event : now.events) {
    EXPECT_EQ(event.first, tokens);
    tokens += event.tokens;
    steps += event.steps;
  }
  EXPECT_EQ(tokens, 10'000);
  EXPECT_EQ(steps, 1000);
}

TEST(RequestTrace, CountsWhatItHasNoRoomForAndKeepsTheEnd) {
  RequestTrace trace;
  for (int i = 0; i < 100; ++i) trace.add({.kind = Kind::preempted});
  trace.add({.kind = Kind::finished});
  const auto now = trace.snapshot();
  EXPECT_EQ(now.events.size(), RequestTrace::max_events + 1);
  EXPECT_EQ(now.dropped_events, 100 - static_cast<int>(RequestTrace::max_events));
  EXPECT_EQ(now.events.back().kind, Kind::finished);
}

}  // namespace
}  // namespace ridge::engine::step_trace_test
