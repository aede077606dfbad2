// Guesses, the prefix cache, spilled blocks, grammars, stop strings, sampling, adapters and batching, all crossed
// with each other over a real model under batch_invariant: each answer is the plain one to the last
// bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/sanitizers.h"
#include "base/temporary_folder.h"
#include "engine/guessing_models.h"
#include "engine/loaded_model.h"
#include "engine/paced_runner.h"
#include "engine/plain_answer.h"
#include "engine/recorded_request.h"
#include "engine/step_loop.h"

namespace ridge::engine::crossing_test {
namespace {

constexpr int context_tokens = 384;
constexpr int block_tokens = 16;
// Its prompts are so long that attention over them may be split where it need not be invariant.
constexpr uint32_t long_seed = 4;
// Under sanitizers two of three, the long prompts among them.
const std::vector<uint32_t> seeds =
    is_sanitized ? std::vector<uint32_t>{1, long_seed} : std::vector<uint32_t>{1, long_seed, 5};

// What is asked for.
enum class Form { free, json, regex };
enum class Sampling { greedy, seeded, choices };
struct Wish {
  uint32_t seed;  // of the prompt and of the sampling
  Form form;
  bool has_stop;
  Sampling sampling;
};

// How it is computed.
enum class Guesser { none, suffix, model, layer };
enum class Cache { off, cold, warm };
enum class Company {
  alone,    // prompts are read in one step
  chunked,  // in steps of a few tokens
  mixed,    // all wishes at once, that come and go
  crowded,  // likewise, with too few blocks for those that run; what the cache loses is spilled
};
struct Way {
  Guesser guesser;
  Cache cache;
  Company company;
  bool has_sinks = false;  // of a model with windows and sinks
};

std::string name_of(const Wish& wish) {
  return std::to_string(wish.seed) + ", " +
         std::vector<std::string>{"free", "json", "regex"}[static_cast<size_t>(wish.form)] +
         (wish.has_stop ? ", stop, " : ", ") +
         std::vector<std::string>{"greedy", "seeded",
                                  "choices"}[static_cast<size_t>(wish.sampling)];
}

std::string name_of(const Way& way) {
  return std::vector<std::string>{"None", "Suffix", "Model", "Layer"}[static_cast<size_t>(way.guesser)] +
         std::vector<std::string>{"Off", "Cold", "Warm"}[static_cast<size_t>(way.cache)] +
         std::vector<std::string>{"Alone", "Chunked", "Mixed",
                                  "Crowded"}[static_cast<size_t>(way.company)] +
         (way.has_sinks ? "OverSinks" : "");
}

// A wish, and the answers that it is to get.
struct Case {
  Wish wish;
  Request request;
  std::vector<PlainAnswer> expected;  // for each choice
};

// The model, and all wishes with their plain answers; made once.
class World {
 public:
  explicit World(const std::filesystem::path& model, const std::vector<AdapterSource>& adapters) {
    LoadOptions options;
    options.device = "cpu";
    options.device_options.threads = 1;
    options.adapters = adapters;
    options.guesses = true;
    model_ = LoadedModel::load(model, options);
    compiler_ = std::make_unique<text::GrammarCompiler>(
        tokenizer(), text::GrammarCompilerOptions{.limit = std::chrono::minutes(2)});
    const auto runner = create_runner(
        {.tokens = context_tokens, .sequences = 1, .outputs = 1, .blocks = blocks_of_context});
    PlainModel plain(*runner, model_->tokenizer());
    for (const uint32_t seed : seeds) {
      for (const Form form : {Form::free, Form::json, Form::regex}) {
        for (const Sampling sampling : {Sampling::greedy, Sampling::seeded, Sampling::choices}) {
          const Case& whole = add({seed, form, false, sampling}, plain, "");
          add({seed, form, true, sampling}, plain, stop_within(whole.expected.front()));
        }
      }
    }
  }

  const text::Tokenizer& tokenizer() const { return *model_->tokenizer(); }
  std::shared_ptr<const text::Tokenizer> shared_tokenizer() const { return model_->tokenizer(); }
  const std::deque<Case>& cases() const { return cases_; }

  static constexpr int blocks_of_context = context_tokens / block_tokens;
  std::unique_ptr<StepRunner> create_runner(RunnerLimits limits) const {
    limits.context_tokens = context_tokens;
    limits.block_tokens = block_tokens;
    limits.batch_invariant = true;
    return create_step_runner(model_->device(), model_->model(), limits, model_->adapters());
  }

 private:
  std::shared_ptr<const text::Grammar> grammar(Form form) {
    switch (form) {
      case Form::json:
        return compiler_->compile(
            "", text::GrammarKind::json_schema,
            R"({"type":"object","properties":{"at":{"type":"array","minItems":4,"maxItems":6,)"
            R"("items":{"enum":["north","south","nor"]}}},"required":["at"],)"
            R"("additionalProperties":false})");
      case Form::regex:
        return compiler_->compile("", text::GrammarKind::regex, "((the |then |a )[0-9]{1,2}, ){7,9}");
      case Form::free:
        break;
    }
    return nullptr;
  }

  // Towards longer tokens; and away from the whitespace that JSON allows without end.
  std::vector<std::pair<int32_t, float>> bias(Form form) const {
    std::vector<std::pair<int32_t, float>> biases;
    for (int32_t token = 0; token < tokenizer().vocab_size(); ++token) {
      const std::string_view bytes = tokenizer().token_bytes(token);
      const bool is_space = bytes.find_first_not_of(" \t\r\n") == std::string_view::npos;
      if (is_space && form == Form::json) biases.emplace_back(token, -100.0f);
      if (bytes.size() == 1 && form == Form::free) biases.emplace_back(token, -6.0f);
      // The echo's answers would have a few tokens.
      const bool ends = tokenizer().is_end_of_generation(token);
      if (ends && model_->model().guesses()) biases.emplace_back(token, -100.0f);
    }
    return biases;
  }

  // Prompts that begin alike. One ends with its last block, one just behind it.
  Request request(const Wish& wish, std::string stop) {
    Request request;
    std::mt19937 random(wish.seed);
    int tokens = 3 * block_tokens;
    if (wish.sampling == Sampling::seeded) tokens += 9;
    if (wish.sampling == Sampling::choices) tokens += 1;
    if (wish.seed == long_seed) tokens += 256;
    while (static_cast<int>(request.prompt_tokens.size()) < tokens) {
      if (static_cast<int>(request.prompt_tokens.size()) == 2 * block_tokens) {
        random.seed(wish.seed * 50 + static_cast<uint32_t>(wish.sampling));
      }
      request.prompt_tokens.push_back(20 + static_cast<int32_t>(random() % 280));
    }
    // So that prompts which begin alike are read with each adapter and with none.
    request.adapter = model_->adapters().empty() ? -1 : static_cast<int>(wish.sampling) - 1;
    request.max_tokens = 60;
    request.sampling.temperature = wish.sampling == Sampling::greedy ? 0.0f : 0.6f;
    request.sampling.top_p = wish.sampling == Sampling::choices ? 0.9f : 1.0f;
    request.sampling.frequency_penalty = 0.12f;  // what repeats itself stops doing so
    request.sampling.seed = wish.seed;
    request.sampling.top_logprobs = 0;  // so that the tokens themselves are told
    request.choices = wish.sampling == Sampling::choices ? 3 : 1;
    request.sampling.logit_bias = bias(wish.form);
    request.grammar = grammar(wish.form);
    if (!stop.empty()) request.stop = {std::move(stop)};
    return request;
  }

  const Case& add(const Wish& wish, PlainModel& plain, std::string stop) {
    Case& added = cases_.emplace_back(Case{wish, request(wish, std::move(stop)), {}});
    for (int choice = 0; choice < added.request.choices; ++choice) {
      added.expected.push_back(plain.answer(added.request, choice));
    }
    return added;
  }

  static bool is_within_character(const std::string& text, size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  }

  // A stop sequence that begins and ends within tokens of the answer, and is complete first as late
  // in it as can be, where guesses are right most often; but before the last tokens.
  static std::string stop_within(const PlainAnswer& answer) {
    if (answer.ends.size() < 5) return {};
    for (size_t last = answer.ends.size() - 4; last > 2; --last) {
      for (size_t first = last - 1; first > 0; --first) {
        if (answer.ends[first] - answer.ends[first - 1] < 2) continue;
        if (answer.ends[last] - answer.ends[last - 1] < 2) continue;
        const size_t begin = answer.ends[first - 1] + 1;
        const size_t end = answer.ends[last] - 1;
        const std::string stop = answer.text.substr(begin, end - begin);
        if (is_within_character(answer.text, begin) || is_within_character(answer.text, end))
          continue;
        if (answer.text.find(stop) == begin) return stop;
      }
    }
    return {};
  }

  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<text::GrammarCompiler> compiler_;
  std::deque<Case> cases_;
};

const World& llama_world() {
  static const World world = [] {
    const std::string goldens = std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/";
    return World(goldens + "llama-q8_0.gguf",
                 {{goldens + "adapters/llama-f32.attention", /*scale=*/0.5f},
                  {goldens + "adapters/llama-f32.all.gguf", /*scale=*/0.5f}});
  }();
  return world;
}

// gpt-oss: windows far shorter than the prompts in every other layer, sinks, experts.
const World& sinks_world() {
  static const World world(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/gpt-oss-mxfp4.gguf", {});
  return world;
}

// Of a model whose own layer guesses.
const World& echo_world() {
  static const GuessingModel file(GuessingModel::Kind::echo);
  static const World world(file.path(), {});
  return world;
}

const World& world_of(const Way& way) {
  if (way.has_sinks) return sinks_world();
  return way.guesser == Guesser::layer ? echo_world() : llama_world();
}

class Crossing : public testing::TestWithParam<Way> {
 protected:
  Crossing()
      : way_(GetParam()),
        world_(world_of(way_)),
        runner_(world_.create_runner(limits()), clock_, std::chrono::milliseconds(10)) {
    if (way_.guesser != Guesser::model) return;
    RunnerLimits guesses = limits();
    guesses.outputs = guesses.sequences;
    guesses.blocks = guesses.sequences * World::blocks_of_context;
    draft_runner_.emplace(world_.create_runner(guesses), clock_, std::chrono::microseconds(200),
                          /*mistaken_each=*/5);
  }

  RunnerLimits limits() const {
    constexpr int context = World::blocks_of_context;
    switch (way_.company) {
      case Company::alone:
        return {.tokens = context_tokens, .sequences = 4, .outputs = 16, .blocks = 6 * context};
      case Company::chunked:
        return {.tokens = 7, .sequences = 4, .outputs = 16, .blocks = 6 * context};
      case Company::mixed:
        return {.tokens = 24, .sequences = 6, .outputs = 26, .blocks = 9 * context};
      case Company::crowded:
        break;
    }
    return {.tokens = 24, .sequences = 6, .outputs = 26, .blocks = 3 * context / 2};
  }

  bool spills() const { return way_.company == Company::crowded && way_.cache != Cache::off; }
  // Of fewer blocks than are lost, so that some are found again and some are not. On disk where the
  // cache is warm.
  SpillOptions spill() const {
    if (!spills()) return {};
    return {.budget_bytes = 2 * World::blocks_of_context * runner_.block_bytes(),
            .folder = way_.cache == Cache::warm ? folder_.path() : std::filesystem::path()};
  }

  void begin_loop() {
    loop_.emplace(runner_, world_.shared_tokenizer(), clock_,
                  StepLoopOptions{.prefix_cache = way_.cache != Cache::off,
                                  .speculation = way_.guesser != Guesser::none,
                                  .spill = spill()},
                  draft_runner_ ? &*draft_runner_ : nullptr);
  }
  void end_loop() {
    const EngineStats stats = loop_->stats();
    EXPECT_EQ(stats.blocks_free, stats.blocks_total) << "a block leaked";
    drafted_ += stats.draft_tokens_total;
    accepted_ += stats.accepted_tokens_total;
    preemptions_ += stats.preemptions_total;
    restored_ += stats.blocks_restored_total;
    loop_.reset();
  }

  RecordedRequest& add(const Request& request) {
    recorded_.emplace_back(request.choices);
    loop_->add(RequestId{recorded_.size()}, request, recorded_.back().listener(), clock_.now());
    return recorded_.back();
  }
  void run_all() {
    for (int i = 0; loop_->has_work(); ++i) {
      ASSERT_LT(i, 20000) << "no progress";
      loop_->step();
    }
  }

  // Others have asked for the same prompt, and for one that goes on as the plain answer does.
  void warm_up(const Case& wanted) {
    if (way_.cache != Cache::warm) return;
    Request other = wanted.request;
    other.choices = 1;
    other.stop.clear();
    other.grammar = nullptr;
    other.sampling.seed = 99;
    other.max_tokens = 20;
    add(other);
    run_all();
    const std::vector<int32_t>& answer = wanted.expected.front().tokens;
    other.prompt_tokens.insert(other.prompt_tokens.end(), answer.begin(),
                               answer.begin() + static_cast<ptrdiff_t>(answer.size() / 2));
    add(other);
    run_all();
  }

  void check(const Case& wanted, const RecordedRequest& got) const {
    SCOPED_TRACE(name_of(wanted.wish));
    ASSERT_TRUE(got.finish);
    for (size_t choice = 0; choice < wanted.expected.size(); ++choice) {
      SCOPED_TRACE(testing::Message() << "choice " << choice);
      const PlainAnswer& plain = wanted.expected[choice];
      std::vector<int32_t> tokens;
      std::vector<float> logprobs;
      for (const TokenInfo& info : got.tokens[choice]) {
        tokens.push_back(info.picked.token);
        logprobs.push_back(info.picked.logprob);
      }
      EXPECT_EQ(tokens, plain.tokens);
      EXPECT_EQ(logprobs, plain.logprobs);
      EXPECT_EQ(got.content[choice], plain.text);
      EXPECT_EQ(got.stop_sequences[choice], plain.stop_sequence);
      EXPECT_EQ(got.reasons[choice], plain.reason);
    }
  }

  void run_alone() {
    for (const Case& wanted : world_.cases()) {
      begin_loop();
      warm_up(wanted);
      const RecordedRequest& got = add(wanted.request);
      run_all();
      check(wanted, got);
      const int known = way_.cache == Cache::warm
                            ? (static_cast<int>(wanted.request.prompt_tokens.size()) - 1) /
                                  block_tokens * block_tokens
                            : 0;
      EXPECT_EQ(got.finish->usage.cached_tokens, known) << name_of(wanted.wish);
      end_loop();
    }
  }

  void run_together() {
    begin_loop();
    for (const Case& wanted : world_.cases()) warm_up(wanted);
    std::vector<std::pair<const Case*, RecordedRequest*>> asked;
    std::mt19937 random(7);
    std::vector<const Case*> waiting;
    for (const Case& each : world_.cases()) waiting.push_back(&each);
    std::ranges::shuffle(waiting, random);
    while (!waiting.empty()) {
      asked.emplace_back(waiting.back(), &add(waiting.back()->request));
      waiting.pop_back();
      for (auto steps = random() % 12; steps > 0; --steps) loop_->step();
    }
    run_all();
    for (const auto& [wanted, got] : asked) check(*wanted, *got);
    end_loop();
  }

  const Way way_;
  const World& world_;
  const TemporaryFolder folder_;
  FakeClock clock_;
  PacedRunner runner_;
  std::optional<PacedRunner> draft_runner_;
  std::optional<StepLoop> loop_;
  std::deque<RecordedRequest> recorded_;
  uint64_t drafted_ = 0;
  uint64_t accepted_ = 0;
  uint64_t preemptions_ = 0;
  uint64_t restored_ = 0;
};

TEST_P(Crossing, EachAnswerIsThePlainOne) {
  const bool is_alone = way_.company == Company::alone || way_.company == Company::chunked;
  if (is_alone) {
    run_alone();
  } else {
    run_together();
  }
  if (way_.guesser == Guesser::none) {
    EXPECT_EQ(drafted_, 0u);
  } else {
    EXPECT_GT(accepted_, 35 * seeds.size()) << "too few guesses were right to show anything";
    EXPECT_GT(drafted_ - accepted_, 17 * seeds.size()) << "too few were wrong";
  }
  EXPECT_EQ(preemptions_ > 0, way_.company == Company::crowded);
  EXPECT_EQ(restored_ > 0, spills()) << restored_ << " blocks came back";
}

// Under sanitizers those in which most happens at once.
std::vector<Way> ways() {
  if (is_sanitized) {
    return {{Guesser::suffix, Cache::warm, Company::crowded},
            {Guesser::model, Cache::warm, Company::mixed},
            {Guesser::layer, Cache::warm, Company::crowded}};
  }
  std::vector<Way> all;
  for (const Guesser guesser : {Guesser::none, Guesser::suffix, Guesser::model, Guesser::layer}) {
    for (const Cache cache : {Cache::off, Cache::cold, Cache::warm}) {
      for (const Company company :
           {Company::alone, Company::chunked, Company::mixed, Company::crowded}) {
        all.push_back({guesser, cache, company});
      }
    }
  }
  for (const Company company : {Company::chunked, Company::mixed, Company::crowded}) {
    all.push_back({Guesser::suffix, Cache::warm, company, /*has_sinks=*/true});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(, Crossing, testing::ValuesIn(ways()),
                         [](const auto& info) { return name_of(info.param); });

// The wishes are worth crossing: their stop sequences end them, at different places.
TEST(CrossingWishes, HaveAnswersThatEndInManyWays) {
  int stopped = 0;
  for (const Case& each : llama_world().cases()) {
    SCOPED_TRACE(name_of(each.wish));
    const PlainAnswer& first = each.expected.front();
    EXPECT_GE(first.tokens.size(), 8u);
    if (each.wish.has_stop) {
      EXPECT_FALSE(first.stop_sequence.empty());
    }
    stopped += !first.stop_sequence.empty();
  }
  EXPECT_EQ(stopped, 9 * static_cast<int>(seeds.size()));
}

}  // namespace
}  // namespace ridge::engine::crossing_test
