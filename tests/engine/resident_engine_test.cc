#include "engine/resident_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "base/comes_true.h"
#include "base/error.h"
#include "engine/fake_runner.h"
#include "engine/loop_fixture.h"
#include "engine/request_trace.h"
#include "engine/serving_engine.h"

namespace ridge::engine::resident_engine_test {
namespace {

using namespace std::chrono_literals;

constexpr RunnerLimits limits = {
    .sequences = 4, .outputs = 4, .context_tokens = 64, .block_tokens = 4, .blocks = 64};

// A model of so many bytes whose every answer is one token that repeats until max_tokens.
class Model {
 public:
  Model(Residency& residency, uint64_t bytes, bool is_pinned = false) {
    ResidentEngine::Parts parts;
    parts.load = [this] {
      ++loads;
      if (before_load) before_load();
      if (fails) throw Error(ErrorCode::invalid_file, "the file is broken");
      ++awake;
      ServingEngine::Parts engine;
      engine.owned = std::shared_ptr<void>(nullptr, [this](void*) { --awake; });
      engine.runner = std::make_unique<FakeRunner>(limits, small_tokenizer()->vocab_size(),
                                                   [this](const auto&) {
                                                     if (is_slow) std::this_thread::sleep_for(1ms);
                                                     is_held.wait(true);
                                                     return small_tokenizer()->encode("a").front();
                                                   });
      engine.tokenizer = small_tokenizer();
      return std::make_unique<ServingEngine>(std::move(engine), clock);
    };
    parts.tokenizer = small_tokenizer();
    parts.info.vocab_size = small_tokenizer()->vocab_size();
    parts.info.context_tokens = limits.context_tokens;
    parts.bytes = bytes;
    parts.max_queued = 4;
    parts.is_pinned = is_pinned;
    engine = std::make_unique<ResidentEngine>(std::move(parts), residency, clock);
  }

  static Request request(int max_tokens = 3) {
    Request request;
    request.prompt_tokens = {20, 21, 22};
    request.max_tokens = max_tokens;
    return request;
  }
  std::future<Finish> ask(int max_tokens = 3) { return ask(request(max_tokens)); }
  std::future<Finish> ask(const Request& request) {
    auto ended = std::make_shared<std::promise<Finish>>();
    last_id = engine->submit(
        request, {.on_finish = [ended](const Finish& finish) { ended->set_value(finish); }});
    return ended->get_future();
  }

  // Until the engine has counted it, which it does after the last word to the listener.
  void answer() {
    const uint64_t before = engine->stats().finished_total;
    ask().get();
    EXPECT_TRUE(comes_true([&] { return engine->stats().finished_total > before; }));
  }

  SteadyClock clock;
  std::atomic<int> loads = 0;
  std::atomic<int> awake = 0;
  std::atomic<bool> fails = false;
  std::atomic<bool> is_slow = false;
  std::atomic<bool> is_held = false;  // no step ends before it is not any more
  std::function<void()> before_load;
  RequestId last_id;
  std::unique_ptr<ResidentEngine> engine;
};

// Keeps a model at work until it is released, or the test ends.
class Holder {
 public:
  explicit Holder(Model& model) : model_(model) { model_.is_held = true; }
  ~Holder() { release(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  void release() const {
    model_.is_held = false;
    model_.is_held.notify_all();
  }

 private:
  Model& model_;
};

struct ResidentEngineTest : testing::Test {
  SteadyClock clock;
};

TEST_F(ResidentEngineTest, LoadsWhenItIsAskedAndStaysLoaded) {
  Residency residency({}, clock);
  Model model(residency, 10);
  EXPECT_EQ(model.loads, 0);
  EXPECT_EQ(model.ask().get().usage.completion_tokens, 3);
  EXPECT_EQ(model.ask().get().usage.completion_tokens, 3);
  EXPECT_EQ(model.loads, 1);
  EXPECT_TRUE(comes_true([&] { return model.engine->stats().finished_total == 2; }));
}

TEST_F(ResidentEngineTest, APinnedModelIsLoadedAtOnceAndNeverUnloaded) {
  Residency residency({.budget_bytes = 10, .sleep_after = 1ms}, clock);
  Model pinned(residency, 10, /*is_pinned=*/true);
  EXPECT_TRUE(comes_true([&] { return pinned.awake == 1; }));
  Model other(residency, 10);
  auto waits = other.ask();
  EXPECT_EQ(waits.wait_for(50ms), std::future_status::timeout) << "there is no room";
  EXPECT_EQ(pinned.awake, 1);
  other.engine->cancel(other.last_id);
  EXPECT_EQ(waits.get().reasons, std::vector{FinishReason::cancelled});
}

TEST_F(ResidentEngineTest, TheLeastRecentlyUsedModelMakesRoom) {
  Residency residency({.budget_bytes = 20}, clock);
  Model a(residency, 10);
  Model b(residency, 10);
  Model c(residency, 10);
  a.answer();
  b.answer();
  a.answer();
  c.answer();
  EXPECT_EQ(a.awake, 1);
  EXPECT_EQ(b.awake, 0);
  EXPECT_EQ(c.awake, 1);
  EXPECT_EQ(b.ask().get().usage.completion_tokens, 3) << "it comes back when it is asked";
  EXPECT_EQ(b.loads, 2);
  EXPECT_TRUE(comes_true([&] { return b.engine->stats().generated_tokens_total == 6; }))
      << "counters go on";
}

TEST_F(ResidentEngineTest, AModelAtWorkIsNotUnloadedUntilItIsDone) {
  Residency residency({.budget_bytes = 10}, clock);
  Model a(residency, 10);
  Model b(residency, 10);
  a.is_slow = true;
  auto at_work = a.ask(/*max_tokens=*/50);
  ASSERT_TRUE(comes_true([&] { return a.awake == 1; }));
  auto waits = b.ask();
  EXPECT_EQ(at_work.get().usage.completion_tokens, 50) << "it ended undisturbed";
  EXPECT_EQ(waits.get().usage.completion_tokens, 3);
  EXPECT_EQ(a.awake, 0);
}

TEST_F(ResidentEngineTest, AModelThatIsNeverIdleMakesRoomInTheEnd) {
  Residency residency({.budget_bytes = 10, .patience = 20ms}, clock);
  Model busy(residency, 10), waits(residency, 10);
  busy.is_slow = true;
  std::atomic<bool> is_over = false;
  std::atomic<int> answered = 0;
  std::jthread client([&] {
    std::future<Finish> current = busy.ask(/*max_tokens=*/20);
    while (!is_over) {
      std::future<Finish> next = busy.ask(/*max_tokens=*/20);  // so that one always runs
      answered += !current.get().error;
      current = std::move(next);
    }
    answered += !current.get().error;
  });
  ASSERT_TRUE(comes_true([&] { return answered > 2; }));
  std::future<Finish> answer = waits.ask();
  const bool is_answered = answer.wait_for(20s) == std::future_status::ready;
  EXPECT_TRUE(is_answered);
  const int before = answered;
  EXPECT_TRUE(comes_true([&] { return answered > before + 2; })) << "and it comes back";
  is_over = true;
  client.join();
  if (!is_answered) waits.engine->cancel(waits.last_id);
  EXPECT_FALSE(answer.get().error);
  EXPECT_EQ(busy.engine->stats().choices_by_reason[static_cast<size_t>(FinishReason::failed)], 0u);
}

TEST_F(ResidentEngineTest, WhoHasLostPatienceHoldsNobodyOnceItIsGone) {
  Residency residency({.budget_bytes = 10, .patience = 1ms}, clock);
  Model busy(residency, 10), waits(residency, 10);
  const Holder holder(busy);
  auto running = busy.ask(/*max_tokens=*/60);
  ASSERT_TRUE(comes_true([&] { return busy.awake == 1; }));
  auto gone = waits.ask();
  std::this_thread::sleep_for(20ms);
  auto held = busy.ask();
  waits.engine->cancel(waits.last_id);
  EXPECT_EQ(gone.get().reasons, std::vector{FinishReason::cancelled});
  holder.release();
  EXPECT_FALSE(held.get().error);
  EXPECT_FALSE(running.get().error);
  EXPECT_EQ(busy.loads, 1);
  EXPECT_EQ(waits.loads, 0);
}

TEST_F(ResidentEngineTest, NoIdleModelIsUnloadedWhereThatMakesNotEnoughRoom) {
  Residency residency({.budget_bytes = 30}, clock);
  Model idle(residency, 10), busy(residency, 20), waits(residency, 20);
  idle.answer();
  busy.is_slow = true;
  const Holder holder(busy);
  auto at_work = busy.ask(/*max_tokens=*/60);
  ASSERT_TRUE(comes_true([&] { return busy.awake == 1; }));
  auto answer = waits.ask();
  EXPECT_EQ(waits.engine->stats().waiting, 1);
  holder.release();
  EXPECT_FALSE(at_work.get().error);
  EXPECT_FALSE(answer.get().error);
  EXPECT_EQ(busy.awake, 0);
  EXPECT_EQ(idle.awake, 1) << "it would have been of no use";
}

TEST_F(ResidentEngineTest, ADeadlineHoldsForWhoWaitsForRoom) {
  Residency residency({.budget_bytes = 10}, clock);
  Model pinned(residency, 10, /*is_pinned=*/true);
  ASSERT_TRUE(comes_true([&] { return pinned.awake == 1; }));
  Model model(residency, 10);
  auto patient = model.ask();
  const RequestId patient_id = model.last_id;
  Request request = Model::request();
  request.choices = 2;
  request.deadline = 20ms;
  auto ended = model.ask(request);
  ASSERT_EQ(ended.wait_for(20s), std::future_status::ready);
  const Finish finish = ended.get();
  ASSERT_TRUE(finish.error);
  EXPECT_EQ(finish.error->code(), ErrorCode::timed_out);
  EXPECT_EQ(finish.reasons, (std::vector{FinishReason::failed, FinishReason::failed}));
  EXPECT_GE(finish.usage.duration_ms, 20);
  EXPECT_EQ(model.engine->stats().waiting, 1);
  model.engine->cancel(patient_id);
  EXPECT_EQ(patient.get().reasons, std::vector{FinishReason::cancelled});
}

TEST_F(ResidentEngineTest, ADeadlineHoldsForWhoWaitsForTheLoad) {
  Residency residency({}, clock);
  std::promise<void> may_load;
  Model model(residency, 10);
  model.before_load = [&] { may_load.get_future().wait(); };
  Request request = Model::request();
  request.deadline = 20ms;
  auto ended = model.ask(request);
  const bool is_ended = ended.wait_for(20s) == std::future_status::ready;
  may_load.set_value();
  ASSERT_TRUE(is_ended) << "it did not end before the model was loaded";
  EXPECT_EQ(ended.get().error->code(), ErrorCode::timed_out);
}

TEST_F(ResidentEngineTest, TheTimesOfARequestCountFromItsArrival) {
  Residency residency({}, clock);
  Model model(residency, 10);
  model.before_load = [] { std::this_thread::sleep_for(60ms); };
  Request request = Model::request(/*max_tokens=*/50);
  const Usage usage = model.ask(request).get().usage;
  EXPECT_GE(usage.queue_ms, 60);
  EXPECT_GE(usage.ttft_ms, usage.queue_ms);
  EXPECT_GE(usage.duration_ms, usage.ttft_ms);
  model.engine->keep_loaded(0ms, WhoAsks::administrator);
  ASSERT_TRUE(comes_true([&] { return model.awake == 0; }));
  model.is_slow = true;
  request.deadline = 90ms;  // the load takes most of it
  const Finish late = model.ask(request).get();
  ASSERT_TRUE(late.error);
  EXPECT_EQ(late.error->code(), ErrorCode::timed_out);
}

TEST_F(ResidentEngineTest, AGroupThatFillsTheLineForAModelShutsNobodyOut) {
  Residency residency({.budget_bytes = 10}, clock);
  Model pinned(residency, 10, /*is_pinned=*/true);
  ASSERT_TRUE(comes_true([&] { return pinned.awake == 1; }));
  Model model(residency, 10);
  std::vector<std::future<Finish>> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(model.ask());
  Request request = Model::request();
  request.group = "other";
  waiting.push_back(model.ask(request));
  EXPECT_THROW(model.ask(), Error);
  EXPECT_EQ(model.engine->stats().waiting, 5);
  model.engine->drain(0ms);
  for (auto& each : waiting) EXPECT_EQ(each.get().error->code(), ErrorCode::unavailable);
}

TEST_F(ResidentEngineTest, AnUnusedModelGoesToSleep) {
  Residency residency({.sleep_after = 5ms}, clock);
  Model model(residency, 10);
  model.ask().get();
  EXPECT_TRUE(comes_true([&] { return model.awake == 0; }));
  EXPECT_EQ(model.ask().get().usage.completion_tokens, 3);
}

TEST_F(ResidentEngineTest, AModelThatIsNotToStayIsUnloadedOnce) {
  Residency residency({}, clock);
  Model a(residency, 10);
  Model b(residency, 10);
  for (Model* model : {&a, &b}) {
    model->answer();
    model->engine->keep_loaded(0ms, WhoAsks::administrator);
    EXPECT_TRUE(comes_true([&] { return model->awake == 0; }));
    if (model == &a) a.answer();
  }
  EXPECT_EQ(a.awake, 1) << "it was looked at since, and is kept as before";
  EXPECT_EQ(a.loads, 2);
}

TEST_F(ResidentEngineTest, AModelThatIsToStayOutlastsTheOthers) {
  Residency residency({.sleep_after = 1ms}, clock);
  Model stays(residency, 10);
  stays.engine->keep_loaded(-1s, WhoAsks::administrator);
  stays.answer();
  Model goes(residency, 10);
  goes.answer();
  EXPECT_TRUE(comes_true([&] { return goes.awake == 0; }));
  EXPECT_EQ(stays.awake, 1);
  stays.engine->keep_loaded(1ms, WhoAsks::administrator);
  EXPECT_TRUE(comes_true([&] { return stays.awake == 0; }));
}

TEST_F(ResidentEngineTest, ACallerNeitherUnloadsNorKeepsAModelOfOthers) {
  Residency never_sleeps({}, clock), sleeps_late({.sleep_after = 1h}, clock),
      sleeps_soon({.sleep_after = 1ms}, clock);
  for (Residency* residency : {&never_sleeps, &sleeps_late}) {
    Model stays(*residency, 10), goes(*residency, 10);
    stays.answer();
    goes.answer();
    for (const Clock::Duration wish : {Clock::Duration(0ms), Clock::Duration(1ms)}) {
      stays.engine->keep_loaded(wish, WhoAsks::caller);
    }
    goes.engine->keep_loaded(0ms, WhoAsks::administrator);
    EXPECT_TRUE(comes_true([&] { return goes.awake == 0; }));
    EXPECT_EQ(stays.awake, 1);
  }
  Model goes(sleeps_soon, 10);
  for (const Clock::Duration wish : {Clock::Duration(-1s), Clock::Duration(1h)}) {
    goes.engine->keep_loaded(wish, WhoAsks::caller);
    goes.answer();
    EXPECT_TRUE(comes_true([&] { return goes.awake == 0; }));
  }
}

TEST_F(ResidentEngineTest, ACallerDoesNotUndoWhatAnAdministratorSaid) {
  Residency residency({.sleep_after = 1ms}, clock);
  Model stays(residency, 10), goes(residency, 10);
  stays.engine->keep_loaded(-1s, WhoAsks::administrator);
  stays.answer();
  stays.engine->keep_loaded(1ms, WhoAsks::caller);
  goes.answer();
  EXPECT_TRUE(comes_true([&] { return goes.awake == 0; }));
  EXPECT_EQ(stays.awake, 1);
}

TEST_F(ResidentEngineTest, AModelAtWorkIsUnloadedOnlyThen) {
  Residency residency({}, clock);
  Model model(residency, 10);
  model.is_slow = true;
  auto at_work = model.ask(/*max_tokens=*/50);
  ASSERT_TRUE(comes_true([&] { return model.awake == 1; }));
  model.engine->keep_loaded(0ms, WhoAsks::administrator);
  EXPECT_EQ(at_work.get().usage.completion_tokens, 50);
  EXPECT_TRUE(comes_true([&] { return model.awake == 0; }));
}

TEST_F(ResidentEngineTest, WhoeverWaitsIsToldWhenLoadingFails) {
  Residency residency({}, clock);
  Model model(residency, 10);
  model.fails = true;
  const Finish finish = model.ask().get();
  ASSERT_TRUE(finish.error);
  EXPECT_EQ(finish.error->code(), ErrorCode::invalid_file);
  EXPECT_EQ(finish.reasons, std::vector{FinishReason::failed});
  const EngineStats stats = model.engine->stats();
  EXPECT_EQ(stats.finished_total, 1u);
  EXPECT_EQ(stats.choices_by_reason[static_cast<size_t>(FinishReason::failed)], 1u);
  model.fails = false;
  EXPECT_FALSE(model.ask().get().error) << "the next one tries again";
}

TEST_F(ResidentEngineTest, TheLineForAModelThatLoadsIsBounded) {
  Residency residency({.budget_bytes = 10}, clock);
  Model pinned(residency, 10, /*is_pinned=*/true);
  ASSERT_TRUE(comes_true([&] { return pinned.awake == 1; }));
  Model model(residency, 10);
  std::vector<std::future<Finish>> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(model.ask());
  EXPECT_THROW(model.ask(), Error);
  EXPECT_EQ(model.engine->stats().waiting, 4);
  EXPECT_TRUE(model.engine->stats().is_loading) << "no step is what they wait for";
  model.engine->drain(0ms);
  for (auto& each : waiting) EXPECT_EQ(each.get().error->code(), ErrorCode::unavailable);
}

// One is computed, and counts as its first step goes on; two wait in the engine's line, and the model
// is held for another's sake: only one more has a place in a line of four. Whoever is taken is
// answered, once the other is gone.
TEST_F(ResidentEngineTest, AHeldModelTakesNoMoreThanItsLineWillHold) {
  Residency residency({.budget_bytes = 10, .patience = 1ms}, clock);
  Model busy(residency, 10), waits(residency, 10);
  const Holder holder(busy);
  std::vector<std::future<Finish>> taken;
  taken.push_back(busy.ask());
  ASSERT_TRUE(comes_true([&] { return busy.awake == 1; }));
  for (int i = 0; i < 2; ++i) taken.push_back(busy.ask());
  auto gone = waits.ask();
  ASSERT_TRUE(comes_true([&] { return busy.engine->is_held(); }));
  taken.push_back(busy.ask());
  EXPECT_EQ(total(busy.engine->waiting()), 4);
  try {
    busy.ask();
    ADD_FAILURE() << "taken, and refused later";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::queue_full);
  }
  Request request = Model::request();
  request.group = "other";
  taken.push_back(busy.ask(request));  // who fills the line shuts nobody else out
  waits.engine->cancel(waits.last_id);
  EXPECT_EQ(gone.get().reasons, std::vector{FinishReason::cancelled});
  ASSERT_TRUE(comes_true([&] { return !busy.engine->is_held(); }));
  holder.release();
  for (auto& each : taken) EXPECT_FALSE(each.get().error);
}

TEST_F(ResidentEngineTest, TheTraceOfARequestSaysThatItWaitedForItsModel) {
  Residency residency({}, clock);
  Model model(residency, 10);
  for (const size_t waits : {1u, 0u}) {  // then it is loaded
    Request request;
    request.prompt_tokens = {20};
    request.max_tokens = 1;
    request.trace = std::make_shared<RequestTrace>();
    const auto trace = request.trace;
    std::promise<void> ended;
    model.engine->submit(request, {.on_finish = [&](const Finish&) { ended.set_value(); }});
    ended.get_future().wait();
    const std::vector<TraceEvent> events = trace->snapshot().events;
    ASSERT_EQ(events.size(), 5 + waits);
    if (waits == 1) {
      EXPECT_EQ(events[1].kind, TraceEvent::Kind::waiting);
      EXPECT_EQ(events[1].wait, Wait::model);
    }
    EXPECT_EQ(events[0].kind, TraceEvent::Kind::queued);
    EXPECT_TRUE(std::ranges::is_sorted(events, {}, &TraceEvent::at));
    EXPECT_EQ(events.back().kind, TraceEvent::Kind::finished);
  }
  EXPECT_FALSE(model.engine->stats().is_loading);
}

TEST_F(ResidentEngineTest, BadRequestsAreRefusedWithoutLoading) {
  Residency residency({}, clock);
  Model model(residency, 10);
  EXPECT_THROW(model.ask(/*max_tokens=*/0), Error);
  EXPECT_EQ(model.loads, 0);
}

TEST_F(ResidentEngineTest, ManyModelsTakeTurnsUnderLoadWithoutLosingARequest) {
  Residency residency({.budget_bytes = 20, .sleep_after = 1ms}, clock);
  std::vector<std::unique_ptr<Model>> models;
  for (int i = 0; i < 5; ++i) models.push_back(std::make_unique<Model>(residency, 10));
  std::atomic<int> answered = 0;
  std::vector<std::jthread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < 40; ++i) {
        const Finish finish = models[static_cast<size_t>((client + i) % 5)]->ask().get();
        answered += !finish.error && finish.usage.completion_tokens == 3;
      }
    });
  }
  clients.clear();
  EXPECT_EQ(answered, 160);
}

}  // namespace
}  // namespace ridge::engine::resident_engine_test
