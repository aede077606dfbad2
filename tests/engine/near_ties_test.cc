// Without batch_invariant, an answer may go on otherwise in other company, in other chunks, behind
// a cached prefix or with guesses, but only where the two best logits are as near as declared.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/sanitizers.h"
#include "conformance/tolerances.h"
#include "engine/forwarding_runner.h"
#include "engine/golden_model.h"
#include "engine/recorded_request.h"
#include "engine/step_loop.h"

namespace ridge::engine::near_ties_test {
namespace {

// Enough for a decoding row's context to be split, where it may be.
constexpr int context_tokens = 448;
constexpr int block_tokens = 16;
constexpr int prompts = is_sanitized ? 2 : 4;
constexpr int answer_tokens = 16;

struct Case {
  std::string model;
  std::string isa;
  bool is_mixed;
};

// Of each row of logits that was computed, in turn.
struct Row {
  double gap;   // between the two best
  double size;  // root mean square
};

// A runner whose logits are looked at, and whose steps move a clock on by their size, so that the
// loop decides alike in every run. A false one takes the rows of steps of several sequences for
// those of one place later.
class WatchedRunner final : public ForwardingRunner {
 public:
  WatchedRunner(std::unique_ptr<StepRunner> runner, FakeClock& clock, bool is_false)
      : ForwardingRunner(std::move(runner)), clock_(clock), is_false_(is_false) {}

  std::span<const float> run(const StepInputs& inputs) override {
    clock_.advance(std::chrono::microseconds(10'000 + 20 * inputs.tokens()));
    StepInputs given = inputs;
    if (is_false_ && inputs.sequences() > 1) {
      for (int32_t& position : given.positions) ++position;
    }
    const auto logits = ForwardingRunner::run(given);
    const auto width = static_cast<size_t>(vocab_size());
    for (size_t at = 0; at < logits.size(); at += width)
      rows.push_back(of(logits.subspan(at, width)));
    return logits;
  }

  std::vector<Row> rows;

 private:
  static Row of(std::span<const float> logits) {
    double squares = 0;
    float best = -INFINITY, second = -INFINITY;
    for (const float value : logits) {
      squares += double{value} * value;
      second = std::max(second, std::min(best, value));
      best = std::max(best, value);
    }
    return {double{best} - second, std::sqrt(squares / static_cast<double>(logits.size()))};
  }

  FakeClock& clock_;
  const bool is_false_;
};

// How the same prompts are answered.
struct Way {
  const char* name;
  int step_tokens;  // of prompts
  bool in_company;  // all at once
  bool cached;      // a second time, from the prefix cache
  bool speculation;
};
constexpr Way alone = {"alone", context_tokens, false, false, false};
constexpr Way ways[] = {{"in chunks", 11, false, false, false},
                        {"in company", 96, true, false, false},
                        {"behind a cached prefix", 40, true, true, false},
                        {"with guesses", context_tokens, false, false, true},
                        {"all together", 29, true, true, true}};

class NearTies : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    LoadOptions options;
    options.device = "cpu";
    options.device_options.isa = GetParam().isa;
    options.mixed_precision = GetParam().is_mixed;
    load_golden(GetParam().model, options, model_);
  }

  double tolerance() const {
    if (!GetParam().is_mixed) return conformance::near_tie;
    return GetParam().isa.starts_with("amx") ? conformance::near_tie_mixed_on_tiles : conformance::near_tie_mixed;
  }

  struct Answers {
    std::vector<std::vector<TokenInfo>> tokens;  // of each prompt
    std::vector<Row> rows;                       // of all, one prompt after the other
    uint64_t guessed = 0, cached = 0;
  };

  Answers answers(const Way& way, bool is_false = false) {
    RunnerLimits limits = {.tokens = way.step_tokens,
                           .sequences = 8,
                           .outputs = 40,
                           .context_tokens = context_tokens,
                           .block_tokens = block_tokens,
                           .blocks = 16 * context_tokens / block_tokens,
                           .kv_dtype = DType::f16};
    limits.tokens = std::max(limits.tokens, limits.sequences);
    FakeClock clock;
    WatchedRunner runner(
        create_step_runner(model_->device(), model_->model(), limits, model_->adapters()), clock,
        is_false);
    StepLoop loop(runner, model_->tokenizer(), clock,
                  {.prefix_cache = way.cached, .speculation = way.speculation});
    Answers answers;
    for (int round = 0; round <= (way.cached ? 1 : 0); ++round) {
      std::deque<RecordedRequest> requests;
      const auto run = [&] {
        while (loop.has_work()) loop.step();
      };
      for (int i = 0; i < prompts; ++i) {
        requests.emplace_back(1);
        loop.add(RequestId{static_cast<uint64_t>(round * prompts + i + 1)}, request(i),
                 requests.back().listener(), clock.now());
        if (!way.in_company) run();
      }
      run();
      answers.tokens.clear();
      for (RecordedRequest& each : requests) answers.tokens.push_back(std::move(each.tokens[0]));
    }
    answers.rows = std::move(runner.rows);
    answers.guessed = loop.stats().draft_tokens_total;
    answers.cached = loop.stats().cached_tokens_total;
    return answers;
  }

  // A few words again and again, which the answers go on with, or random ones.
  Request request(int number) const {
    std::mt19937 random(static_cast<unsigned>(number) + 1);
    const auto vocab = static_cast<uint32_t>(model_->tokenizer()->vocab_size());
    Request request;
    const int size = 250 + static_cast<int>(random() % 150);
    const int period = number % 2 == 0 ? 7 : size;
    for (int i = 0; i < size; ++i) {
      request.prompt_tokens.push_back(i < period
                                          ? static_cast<int32_t>(random() % vocab)
                                          : request.prompt_tokens[static_cast<size_t>(i - period)]);
    }
    request.max_tokens = answer_tokens;
    request.ignore_eos = true;
    request.sampling.temperature = 0;
    request.sampling.top_logprobs = 0;
    request.group = "";
    return request;
  }

  std::unique_ptr<LoadedModel> model_;
};

// Where another way to answer is further from the plain one than it may be.
struct Comparison {
  double largest = 0;        // of a logprob's error, over the size of the logits
  double widest_parted = 0;  // the largest gap of those that parted, likewise
  int parted = 0;

  bool is_within(double tolerance) const {
    return largest < tolerance && widest_parted < tolerance;
  }
};

template <typename Answers>
Comparison compare(const Answers& plain, const Answers& other) {
  Comparison found;
  for (size_t prompt = 0; prompt < plain.tokens.size(); ++prompt) {
    EXPECT_EQ(other.tokens[prompt].size(), static_cast<size_t>(answer_tokens));
    for (size_t i = 0; i < other.tokens[prompt].size(); ++i) {
      const TokenLogprob& expected = plain.tokens[prompt][i].picked;
      const TokenLogprob& given = other.tokens[prompt][i].picked;
      const Row& row = plain.rows[prompt * static_cast<size_t>(answer_tokens) + i];
      if (given.token != expected.token) {
        ++found.parted;
        found.widest_parted = std::max(found.widest_parted, row.gap / row.size);
        break;  // what follows has another context
      }
      found.largest =
          std::max(found.largest, std::abs(double{given.logprob} - expected.logprob) / row.size);
    }
  }
  return found;
}

TEST_P(NearTies, AreTheOnlyPlacesWhereAnAnswerGoesOnOtherwise) {
  const Answers plain = answers(alone);
  ASSERT_EQ(plain.rows.size(), static_cast<size_t>(prompts * answer_tokens));
  for (const Way& way : ways) {
    SCOPED_TRACE(way.name);
    const Answers other = answers(way);
    if (way.speculation) {
      EXPECT_GT(other.guessed, 0u);
    }
    if (way.cached) {
      EXPECT_GT(other.cached, 0u);
    }
    const Comparison found = compare(plain, other);
    EXPECT_LT(found.largest, tolerance());
    EXPECT_LT(found.widest_parted, tolerance());
    std::string key = std::string("largest_") + way.name;
    std::ranges::replace(key, ' ', '_');
    RecordProperty(key, fmt::format("{:.1e}, {} parted", found.largest, found.parted));
  }
}

// What this would not find, it could not promise. A place off by one moves logits by less than
// mixed precision may.
TEST_P(NearTies, AWrongPlaceOfRowsIsNoNearTie) {
  if (GetParam().is_mixed) return;
  const Comparison found = compare(answers(alone), answers(ways[1], /*is_false=*/true));
  EXPECT_FALSE(found.is_within(tolerance())) << found.largest << ", " << found.widest_parted;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<std::string> isas =
      is_sanitized ? std::vector<std::string>{"avx2"}
                   : std::vector<std::string>{"scalar",      "avx2",        "avx512",
                                              "avx512_vnni", "avx512_bf16", "amx"};
  // Of gpt-oss the golden in MXFP4 alone: what the one in BF16 says repeats nothing, and is not
  // guessed. Not DeepSeek's, whose prompts are computed in two forms (docs/adr/0046): a router that is about
  // to choose another expert may be turned by their roundings, and what follows moves with it.
  for (const std::string model :
       {"llama-f32.gguf", "llama-q8_0.gguf", "llama-q4_k_m.gguf", "qwen2-q8_0.gguf",
        "gemma3-q8_0.gguf", "gpt-oss-mxfp4.gguf", "qwen3moe-q4_k_m.gguf"}) {
    for (const std::string& isa : isas) {
      // Slow, and the same for each model.
      if (isa == "scalar" && model != "llama-q8_0.gguf") continue;
      for (const bool is_mixed : {false, true}) all.push_back({model, isa, is_mixed});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(, NearTies, testing::ValuesIn(cases()), [](const auto& info) {
  std::string name =
      info.param.model + "_" + info.param.isa + (info.param.is_mixed ? "_mixed" : "_full");
  std::ranges::replace_if(
      name, [](char each) { return !std::isalnum(each); }, '_');
  return name;
});

}  // namespace
}  // namespace ridge::engine::near_ties_test
