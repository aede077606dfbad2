// Random requests, cancellations and failures over a model whose answer depends on every token of
// the context. Each answer is compared with the same request computed alone and without paging.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <random>

#include "base/log.h"
#include "base/sanitizers.h"
#include "engine/fake_runner.h"
#include "engine/loop_fixture.h"

namespace ridge::engine::step_loop_random_test {
namespace {

// The next token of the fake model: sometimes the end, one in eight pseudo-random in the whole
// context, else in the last token, so that answers repeat themselves and guesses come true.
int32_t next_token(const std::vector<int32_t>& context) {
  uint64_t hash = 1469598103934665603u;
  for (int32_t token : context) hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
  if (hash % 29 == 0) return *small_tokenizer()->eos();
  if ((hash >> 50) % 8 == 0) return static_cast<int32_t>((hash >> 20) % 50 + 10);
  return 10 + (context.back() * 7 + 3) % 11;
}

// What a draft model guesses.
int32_t often_the_next_token(const std::vector<int32_t>& context) {
  return context.size() % 3 == 0 ? 11 : next_token(context);
}

struct Expected {
  std::vector<int32_t> tokens;
  FinishReason reason;
};

Expected alone(const Request& request, int context_tokens) {
  std::vector<int32_t> context = request.prompt_tokens;
  context.front() += FakeRunner::adapter_mark(request.adapter);
  Expected expected{{}, FinishReason::length};
  while (static_cast<int>(expected.tokens.size()) < request.max_tokens &&
         static_cast<int>(context.size()) < context_tokens) {
    const int32_t token = next_token(context);
    expected.tokens.push_back(token);
    context.push_back(token);
    if (small_tokenizer()->is_end_of_generation(token)) {
      expected.reason = FinishReason::stop;
      break;
    }
  }
  return expected;
}

struct Totals {
  int finished = 0;
  int cancelled = 0;
  int failed = 0;
  int overdue = 0;
  int scored = 0;
  int embedded = 0;
  uint64_t steps = 0;
  uint64_t cached_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t accepted_tokens = 0;
  int guessing_passes = 0;
  uint64_t spilled_blocks = 0;
};

class RandomLoop {
 public:
  RandomLoop(uint32_t seed, Totals& totals)
      : totals_(totals),
        random_(seed),
        runner_(limits(), small_tokenizer()->vocab_size(), next_token, /*guesses=*/seed % 3 == 0),
        draft_runner_(draft_limits(), small_tokenizer()->vocab_size(), often_the_next_token),
        loop_(runner_, small_tokenizer(), clock_, options(),
              pick(0, 1) == 0 ? &draft_runner_ : nullptr) {
    const bool fails = pick(0, 3) == 0;
    runner_.before_step = [this, fails](const StepInputs&) {
      clock_.advance(std::chrono::milliseconds(1));
      if (fails && pick(0, 19) == 0) throw Error(ErrorCode::io, "injected");
    };
    // Then guesses may be wrong; no answer may be.
    runner_.checks_followers = !fails;
    runner_.before_guessing = [this, fails](const StepInputs&) {
      if (fails && pick(0, 19) == 0) throw Error(ErrorCode::io, "injected");
    };
    draft_runner_.before_step = [this, fails](const StepInputs&) {
      if (fails && pick(0, 49) == 0) throw Error(ErrorCode::io, "injected");
    };
    runner_.before_hidden = [this, fails] {
      clock_.advance(std::chrono::milliseconds(1));
      if (fails && pick(0, 9) == 0) throw Error(ErrorCode::io, "injected");
    };
    runner_.after_step = [this, fails](const StepInputs&, std::vector<float>& logits) {
      if (fails && !logits.empty() && pick(0, 19) == 0) logits[0] = NAN;
    };
  }

  void run() {
    const size_t arrivals = static_cast<size_t>(pick(1, 12));
    for (int step = 0; requests_.size() < arrivals || loop_.has_work(); ++step) {
      ASSERT_LT(step, 20000) << "no progress";
      while (requests_.size() < arrivals && pick(0, 2) == 0) arrive();
      if (!requests_.empty() && pick(0, 9) == 0) cancel_any();
      loop_.step();
      check_blocks();
    }
    for (const auto& request : requests_) check(*request);
    EXPECT_EQ(loop_.stats().finished_total, requests_.size());
    const EngineStats stats = loop_.stats();
    totals_.steps += stats.steps_total;
    totals_.cached_tokens += stats.cached_tokens_total;
    totals_.preemptions += stats.preemptions_total;
    totals_.accepted_tokens += stats.accepted_tokens_total;
    totals_.guessing_passes += runner_.guessing_passes;
    totals_.spilled_blocks += static_cast<uint64_t>(stats.blocks_spilled);
  }

 private:
  struct Tracked {
    explicit Tracked(const Request& r) : request(r), recorded(r.choices) {}
    Request request;
    RecordedRequest recorded;
  };

  int pick(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint32_t>(high - low + 1));
  }
  RunnerLimits limits() {
    const int sequences = pick(1, 5);
    const int block_tokens = 1 << pick(0, 4);
    const int context_tokens = pick(4, 60);
    const int least_blocks = kvcache::BlockTable::blocks_for(context_tokens, block_tokens);
    return {.tokens = sequences + pick(0, 30),
            .sequences = sequences,
            .outputs = sequences + pick(0, 12),
            .context_tokens = context_tokens,
            .block_tokens = block_tokens,
            .blocks = least_blocks + pick(0, 2 * least_blocks)};
  }

  RunnerLimits draft_limits() {
    RunnerLimits limits = runner_.limits();
    limits.outputs = limits.sequences;
    return limits;
  }
  StepLoopOptions options() {
    return {.prefix_cache = pick(0, 3) != 0,
            .speculation = pick(0, 3) != 0,
            .itl_target_ms = static_cast<double>(pick(0, 3)),
            .spill = {.budget_bytes = static_cast<uint64_t>(pick(0, 2) * 1000)}};
  }

  void arrive() {
    Request request;
    request.prompt_tokens.resize(static_cast<size_t>(pick(1, runner_.limits().context_tokens - 1)));
    // Prompts begin alike up to somewhere.
    const size_t alike = static_cast<size_t>(pick(0, 60));
    for (size_t i = 0; i < request.prompt_tokens.size(); ++i) {
      request.prompt_tokens[i] = i < alike ? 10 + static_cast<int32_t>(i) : pick(10, 60);
    }
    request.group = pick(0, 2) == 0 ? "small" : "large";
    request.adapter = std::max(-1, pick(-3, 1));
    request.group_weight = request.group == "small" ? 1 : 2;
    if (pick(0, 9) == 0) request.deadline = std::chrono::milliseconds(pick(0, 60));
    if (pick(0, 4) == 0) request.prompt_logprobs = pick(0, 2);
    if (pick(0, 4) == 0) {
      request.embedding = pick(0, 1) == 0 ? Pooling::mean : Pooling::last;
      request.prompt_logprobs = -1;
    }
    request.max_tokens = request.embedding ? 0 : pick(request.prompt_logprobs >= 0 ? 0 : 1, 40);
    request.choices = !request.embedding && pick(0, 3) == 0 ? pick(2, 4) : 1;
    request.priority = pick(0, 1);
    request.sampling.temperature = 0.0f;
    request.sampling.top_logprobs = 0;  // so that the tokens themselves are told
    requests_.push_back(std::make_unique<Tracked>(request));
    loop_.add(RequestId{requests_.size()}, request, requests_.back()->recorded.listener(),
              clock_.now());
  }
  void cancel_any() {
    const size_t index = static_cast<size_t>(pick(0, static_cast<int>(requests_.size()) - 1));
    loop_.cancel(RequestId{index + 1});
    EXPECT_TRUE(requests_[index]->recorded.finish) << "a cancelled request goes on";
    check_blocks();
  }
  void check_blocks() {
    if (!loop_.has_work()) {
      EXPECT_EQ(loop_.stats().blocks_free, loop_.stats().blocks_total) << "a block leaked";
    }
  }

  void check_embedding(const Tracked& tracked) {
    const RecordedRequest& recorded = tracked.recorded;
    ASSERT_EQ(recorded.embedding.has_value(),
              !recorded.finish->error && recorded.reasons[0] == FinishReason::stop);
    if (!recorded.embedding) return;
    ++totals_.embedded;
    std::vector<float> expected(3);
    std::vector<int32_t> prompt = tracked.request.prompt_tokens;
    prompt.front() += FakeRunner::adapter_mark(tracked.request.adapter);
    const bool is_mean = tracked.request.embedding == Pooling::mean;
    float sum = 0;
    for (size_t i = 0; i < prompt.size(); ++i) {
      sum += static_cast<float>(prompt[i]);
      if (!is_mean && i + 1 < prompt.size()) continue;
      expected[0] += static_cast<float>(prompt[i]);
      expected[1] += static_cast<float>(i + 1);
      expected[2] += sum;
    }
    for (size_t d = 0; d < 3; ++d) {
      const float count = is_mean ? static_cast<float>(prompt.size()) : 1;
      EXPECT_NEAR((*recorded.embedding)[d], expected[d] / count, 1e-3 * expected[d]);
    }
  }

  void check(const Tracked& tracked) {
    const RecordedRequest& recorded = tracked.recorded;
    ASSERT_TRUE(recorded.finish) << "a request was lost";
    if (tracked.request.embedding) return check_embedding(tracked);
    const Expected expected = alone(tracked.request, runner_.limits().context_tokens);
    int completion_tokens = 0;
    bool any_failed = false;
    const int prompt_tokens = static_cast<int>(tracked.request.prompt_tokens.size());
    if (recorded.prompt) {
      ++totals_.scored;
      ASSERT_EQ(static_cast<int>(recorded.prompt->size()), prompt_tokens - 1);
      for (int i = 1; i < prompt_tokens; ++i) {
        const TokenInfo& info = (*recorded.prompt)[static_cast<size_t>(i) - 1];
        ASSERT_EQ(info.picked.token, tracked.request.prompt_tokens[static_cast<size_t>(i)]);
        std::vector<int32_t> before(tracked.request.prompt_tokens.begin(),
                                    tracked.request.prompt_tokens.begin() + i);
        before.front() += FakeRunner::adapter_mark(tracked.request.adapter);
        ASSERT_EQ(info.picked.logprob > -0.1f, next_token(before) == info.picked.token);
      }
    } else {
      EXPECT_TRUE(tracked.request.prompt_logprobs < 0 || recorded.token_counts[0] == 0);
    }
    for (size_t choice = 0; choice < recorded.reasons.size(); ++choice) {
      const FinishReason reason = *recorded.reasons[choice];
      completion_tokens += recorded.token_counts[choice];
      std::vector<int32_t> tokens;
      for (const TokenInfo& info : recorded.tokens[choice]) tokens.push_back(info.picked.token);
      std::vector<int32_t> wanted = expected.tokens;
      if (reason == FinishReason::stop || reason == FinishReason::length) {
        EXPECT_EQ(reason, expected.reason);
        EXPECT_EQ(recorded.token_counts[choice], static_cast<int>(wanted.size()));
        if (reason == FinishReason::stop) wanted.pop_back();  // the end has no text
        ++totals_.finished;
      } else {
        ASSERT_LE(tokens.size(), wanted.size());
        wanted.resize(tokens.size());
        any_failed |= reason == FinishReason::failed;
        ++(reason == FinishReason::failed ? totals_.failed : totals_.cancelled);
      }
      EXPECT_EQ(tokens, wanted) << "batching changed the answer";
    }
    EXPECT_EQ(recorded.finish->error.has_value(), any_failed);
    totals_.overdue +=
        recorded.finish->error && recorded.finish->error->code() == ErrorCode::timed_out;
    EXPECT_EQ(recorded.finish->usage.completion_tokens, completion_tokens);
    const int used = recorded.finish->usage.prompt_tokens;
    const bool was_begun = completion_tokens > 0 || used > 0;
    EXPECT_EQ(used, was_begun ? static_cast<int>(tracked.request.prompt_tokens.size()) : 0);
  }

  Totals& totals_;
  std::mt19937 random_;
  FakeClock clock_;
  FakeRunner runner_;
  FakeRunner draft_runner_;
  StepLoop loop_;
  std::vector<std::unique_ptr<Tracked>> requests_;
};

// Of the seeds, under sanitizers.
constexpr int part = is_sanitized ? 10 : 1;

TEST(StepLoopRandom, EveryRequestEndsOnceWithTheAnswerItWouldHaveAlone) {
  log::set_level(log::Level::error);
  Totals totals;
  for (uint32_t seed = 0; seed < 2000 / part; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomLoop(seed, totals).run();
    if (HasFailure()) return;
  }
  EXPECT_GT(totals.steps, 50000u / part);
  EXPECT_GT(totals.finished, 5000 / part);
  EXPECT_GT(totals.cancelled, 1000 / part);
  EXPECT_GT(totals.failed, 1000 / part);
  EXPECT_GT(totals.overdue, 100 / part);
  EXPECT_GT(totals.scored, 1000 / part);
  EXPECT_GT(totals.embedded, 1000 / part);
  EXPECT_GT(totals.cached_tokens, 10000u / part);
  EXPECT_GT(totals.preemptions, 1000u / part);
  EXPECT_GT(totals.accepted_tokens, 1000u / part);
  EXPECT_GT(totals.guessing_passes, 1000 / part);
  EXPECT_GT(totals.spilled_blocks, 100u / part);
}

}  // namespace
}  // namespace ridge::engine::step_loop_random_test
