// Guesses of a real model's own layer for multi-token prediction: the answers are those without,
// and what the layer sees is what it would see alone, however sequences share steps and blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "engine/engine.h"
#include "engine/forwarding_runner.h"
#include "engine/guessing_models.h"
#include "engine/loaded_model.h"
#include "engine/paced_runner.h"
#include "engine/recorded_request.h"
#include "engine/step_loop.h"

namespace ridge::engine::mtp_serving_test {
namespace {

using Tokens = std::vector<int32_t>;
using State = std::vector<float>;

constexpr int context_tokens = 128;
constexpr int block_tokens = 16;
constexpr int blocks_of_context = context_tokens / block_tokens;

std::unique_ptr<LoadedModel> load(const GuessingModel& model, bool guesses) {
  LoadOptions options;
  options.device = "cpu";
  options.device_options.threads = 1;
  options.guesses = guesses;
  return LoadedModel::load(model.path(), options);
}

std::unique_ptr<StepRunner> create_runner(const LoadedModel& model, RunnerLimits limits) {
  limits.context_tokens = context_tokens;
  limits.block_tokens = block_tokens;
  limits.batch_invariant = true;
  return create_step_runner(model.device(), model.model(), limits);
}

// Keeps the states of which the first guesses are made: later ones hang on guesses.
class WatchedRunner final : public ForwardingRunner {
 public:
  using ForwardingRunner::ForwardingRunner;
  std::span<const float> run(const StepInputs& inputs) override {
    is_first_ = true;
    return ForwardingRunner::run(inputs);
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    const auto width = static_cast<size_t>(hidden_size());
    for (size_t at = 0; is_first_ && at < states.size(); at += width) {
      const auto state = states.subspan(at, width);
      seen.emplace_back(state.begin(), state.end());
    }
    is_first_ = false;
    return ForwardingRunner::run_guess(states);
  }

  std::vector<State> seen;

 private:
  bool is_first_ = false;
};

Tokens tokens_of(const RecordedRequest& recorded, size_t choice = 0) {
  Tokens tokens;
  for (const TokenInfo& info : recorded.tokens.at(choice)) tokens.push_back(info.picked.token);
  return tokens;
}

Request request_of(Tokens prompt, int max_tokens) {
  Request request;
  request.prompt_tokens = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  request.sampling.temperature = 0.0f;
  request.sampling.top_logprobs = 0;
  return request;
}

// A loop over a model, whose steps take a time that depends on their size alone.
class Served {
 public:
  Served(const LoadedModel& model, const RunnerLimits& limits, StepLoopOptions options = {})
      : runner_(create_runner(model, limits), clock_, std::chrono::milliseconds(10)),
        watched(runner_),
        loop(watched, model.tokenizer(), clock_, options) {}

  RecordedRequest& add(const Request& request) {
    recorded_.emplace_back(request.choices);
    loop.add(RequestId{recorded_.size()}, request, recorded_.back().listener(), clock_.now());
    return recorded_.back();
  }
  void run_all() {
    for (int i = 0; loop.has_work(); ++i) {
      ASSERT_LT(i, 5000) << "no progress";
      loop.step();
    }
    EXPECT_EQ(loop.stats().blocks_free, loop.stats().blocks_total) << "a block leaked";
  }

 private:
  FakeClock clock_;
  PacedRunner runner_;
  std::deque<RecordedRequest> recorded_;

 public:
  WatchedRunner watched;
  StepLoop loop;
};

constexpr RunnerLimits roomy = {.tokens = 64, .sequences = 4, .outputs = 24, .blocks = 64};
constexpr RunnerLimits narrow = {.tokens = 7, .sequences = 4, .outputs = 24, .blocks = 64};
constexpr RunnerLimits crowded = {
    .tokens = 24, .sequences = 4, .outputs = 24, .blocks = 3 * blocks_of_context / 2};

// ---------------------------------------------------------------- guesses right by the weights

struct MtpChain : testing::Test {
  static Tokens chain(int32_t first, int count) {
    Tokens tokens(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) tokens[static_cast<size_t>(i)] = first + i;
    return tokens;
  }

  GuessingModel file{GuessingModel::Kind::chain};
  std::unique_ptr<LoadedModel> model = load(file, /*guesses=*/true);
};

TEST_F(MtpChain, EveryGuessIsRightAloneInBatchesAndBehindKnownPrefixes) {
  for (const RunnerLimits& limits : {roomy, narrow, crowded}) {
    for (const float temperature : {0.0f, 0.7f}) {
      Served served(*model, limits);
      std::vector<std::pair<int32_t, const RecordedRequest*>> asked;
      const auto ask = [&](int32_t first, int prompt_tokens) {
        Request request = request_of(chain(first, prompt_tokens), 40);
        request.sampling.temperature = temperature;
        request.sampling.seed = 3;
        asked.emplace_back(first + prompt_tokens, &served.add(request));
      };
      ask(50, 33);
      served.run_all();
      ask(50, 40);
      for (const int32_t first : {60, 90, 120, 150}) ask(first, 10 + first / 10);
      served.run_all();
      for (const auto& [next, request] : asked) {
        EXPECT_EQ(tokens_of(*request), chain(next, 40));
      }
      EXPECT_EQ(asked[1].second->finish->usage.cached_tokens, 32);
      const EngineStats stats = served.loop.stats();
      EXPECT_GT(stats.draft_tokens_total, 60u);
      EXPECT_EQ(stats.accepted_tokens_total, stats.draft_tokens_total);
      EXPECT_LT(stats.steps_total, 240u) << "a step for each token";
    }
  }
}

TEST_F(MtpChain, TheEngineServesTheSameWithoutTheLayer) {
  for (const auto& [speculation, mtp] : {std::pair{true, true}, {true, false}, {false, true}}) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = 1;
    options.kv_cache_bytes = 4 << 20;
    options.batch_invariant = true;
    options.speculation = speculation;
    options.mtp = mtp;
    const auto engine = Engine::start(file.path(), options);
    RecordedRequest recorded(1);
    std::promise<void> done;
    RequestListener listener = recorded.listener();
    listener.on_finish = [finish = listener.on_finish, &done](const Finish& value) {
      finish(value);
      done.set_value();
    };
    engine->submit(request_of(chain(50, 20), 40), std::move(listener));
    done.get_future().wait();
    EXPECT_EQ(tokens_of(recorded), chain(70, 40));
    const EngineStats stats = engine->stats();
    EXPECT_EQ(stats.draft_tokens_total > 0, speculation && mtp);
    EXPECT_EQ(stats.accepted_tokens_total, stats.draft_tokens_total);
  }
}

// ---------------------------------------------------------------- guesses that hang on the context

struct MtpEcho : testing::Test {
  Tokens prompt(int tokens, uint32_t seed, int shared = 0) const {
    std::mt19937 random(1);
    Tokens prompt;
    for (int i = 0; i < tokens; ++i) {
      if (i == shared) random.seed(seed);
      prompt.push_back(40 + static_cast<int32_t>(random() % 270));
    }
    return prompt;
  }

  // The layer's state after each token of a sequence, by one pass over all of it.
  std::set<State> plain_states(const Tokens& tokens) {
    const auto runner = create_runner(*model, {.tokens = context_tokens,
                                               .sequences = context_tokens,
                                               .outputs = context_tokens,
                                               .blocks = blocks_of_context});
    kvcache::BlockPool pool(runner->limits().blocks);
    kvcache::BlockTable blocks(pool, block_tokens);
    EXPECT_TRUE(blocks.reserve(static_cast<int>(tokens.size())));
    StepInputs inputs(blocks_of_context);
    const int positions = static_cast<int>(tokens.size()) - 1;
    inputs.add(std::span(tokens).first(tokens.size() - 1), 0, blocks, 1);
    runner->run(inputs);
    const auto hidden = runner->hidden();
    StepInputs following(blocks_of_context);
    following.add(std::span(tokens).subspan(1), 0, blocks, positions);
    const auto states = runner->run_guessing(following, hidden);
    const auto width = static_cast<size_t>(runner->hidden_size());
    std::set<State> all;
    for (size_t at = 0; at < states.size(); at += width) {
      all.emplace(states.begin() + static_cast<ptrdiff_t>(at),
                  states.begin() + static_cast<ptrdiff_t>(at + width));
    }
    return all;
  }

  // Every guess was made of what the layer gives for one of the sequences.
  void expect_plain(const Served& served, const std::vector<Tokens>& sequences) {
    std::set<State> wanted;
    for (const Tokens& tokens : sequences) wanted.merge(plain_states(tokens));
    EXPECT_GT(served.watched.seen.size(), 10u);
    size_t others = 0;
    for (const State& state : served.watched.seen) others += !wanted.contains(state);
    EXPECT_EQ(others, 0u) << "of " << served.watched.seen.size();
  }

  Tokens plain_answer(const Request& request) {
    Served served(*without, roomy, {.prefix_cache = false});
    const RecordedRequest& recorded = served.add(request);
    served.run_all();
    return tokens_of(recorded);
  }

  static Tokens joined(const Request& request, const Tokens& answer) {
    Tokens tokens = request.prompt_tokens;
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    return tokens;
  }

  GuessingModel file{GuessingModel::Kind::echo};
  std::unique_ptr<LoadedModel> model = load(file, /*guesses=*/true);
  std::unique_ptr<LoadedModel> without = load(file, /*guesses=*/false);
};

TEST_F(MtpEcho, AnswersAndWhatTheLayerSeesAreThoseOfEachSequenceAlone) {
  for (const RunnerLimits& limits : {roomy, narrow, crowded}) {
    Served served(*model, limits);
    std::vector<Request> requests;
    // Prompts that begin alike, up to a block's end and beyond, and go on otherwise.
    for (uint32_t seed = 2; seed < 8; ++seed) {
      requests.push_back(request_of(prompt(30 + static_cast<int>(seed) * 3, seed, 32), 40));
      requests.back().sampling.temperature = seed % 2 == 0 ? 0.0f : 0.6f;
      requests.back().sampling.seed = seed;
    }
    std::vector<const RecordedRequest*> answers = {&served.add(requests.front())};
    served.run_all();
    for (size_t i = 1; i < requests.size(); ++i) {
      answers.push_back(&served.add(requests[i]));
      for (size_t step = 0; step < i; ++step) served.loop.step();
    }
    served.run_all();
    std::vector<Tokens> sequences;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(tokens_of(*answers[i]), plain_answer(requests[i])) << i;
      sequences.push_back(joined(requests[i], tokens_of(*answers[i])));
    }
    expect_plain(served, sequences);
    const EngineStats stats = served.loop.stats();
    EXPECT_GT(stats.cached_tokens_total, 0u);
    EXPECT_GT(stats.accepted_tokens_total, stats.draft_tokens_total / 3);
    EXPECT_LT(stats.accepted_tokens_total, stats.draft_tokens_total);
  }
}

// Choices share the prompt's blocks but the last, whose last place hangs on their first tokens.
TEST_F(MtpEcho, ChoicesOfOnePromptGoOnEachFromItsOwn) {
  for (const int tokens : {31, 32, 33}) {
    for (const RunnerLimits& limits : {roomy, narrow}) {
      Served served(*model, limits);
      Request request = request_of(prompt(tokens, 5), 40);
      request.choices = 3;
      request.sampling.temperature = 1.0f;
      request.sampling.seed = 11;
      const RecordedRequest& answer = served.add(request);
      served.run_all();
      std::vector<Tokens> sequences;
      for (size_t choice = 0; choice < 3; ++choice) {
        sequences.push_back(joined(request, tokens_of(answer, choice)));
      }
      EXPECT_NE(sequences[0], sequences[1]);
      expect_plain(served, sequences);
      Served plain(*without, roomy, {.prefix_cache = false});
      const RecordedRequest& wanted = plain.add(request);
      plain.run_all();
      for (size_t choice = 0; choice < 3; ++choice) {
        EXPECT_EQ(tokens_of(answer, choice), tokens_of(wanted, choice));
      }
    }
  }
}

}  // namespace
}  // namespace ridge::engine::mtp_serving_test
