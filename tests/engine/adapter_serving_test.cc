// Requests with two adapters and with none, served together by the engine over a real, tiny model.
// What each must answer is peft's word (tools/goldens/make_adapters.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <future>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/recorded_request.h"
#include "engine/residency.h"
#include "format/gguf.h"

namespace ridge::engine::adapter_serving_test {
namespace {

using ::testing::HasSubstr;
using Tokens = std::vector<int32_t>;

std::string golden(const std::string& name) {
  return std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/" + name;
}

Tokens golden_tokens(const std::string& adapter, const char* tensor) {
  const auto file = format::GgufFile::open(golden("adapters/" + adapter + ".golden.gguf"));
  const TensorView& view = file.tensor(tensor).view;
  Tokens tokens(static_cast<size_t>(view.shape.elements()));
  std::memcpy(tokens.data(), view.bytes.data(), view.bytes.size());
  return tokens;
}

EngineOptions options_with(const std::vector<AdapterOptions>& adapters) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  options.adapters = adapters;
  options.kv_cache_bytes = 4 << 20;
  return options;
}

// Both adapters of a golden model, one in each format.
std::vector<AdapterOptions> two_adapters(const std::string& first, const std::string& second) {
  return {{"first", golden("adapters/" + first + ".gguf")},
          {"second", golden("adapters/" + second)}};
}

class Served {
 public:
  explicit Served(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

  RecordedRequest& submit(Request request) {
    recorded_.emplace_back(request.choices);
    RequestListener listener = recorded_.back().listener();
    auto& done = done_.emplace_back();
    listener.on_finish = [finish = listener.on_finish, &done](const Finish& value) {
      finish(value);
      done.set_value();
    };
    engine_->submit(std::move(request), std::move(listener));
    return recorded_.back();
  }
  RecordedRequest& ask(const Tokens& prompt, int adapter, int choices = 1) {
    Request request;
    request.prompt_tokens = prompt;
    request.adapter = adapter;
    request.choices = choices;
    request.max_tokens = 16;
    request.ignore_eos = true;
    request.sampling.temperature = 0;
    request.sampling.top_logprobs = 0;  // so that the tokens themselves are told
    return submit(std::move(request));
  }
  void wait() {
    for (auto& done : done_) done.get_future().wait();
    done_.clear();
  }
  Engine& engine() { return *engine_; }

 private:
  std::deque<RecordedRequest> recorded_;
  std::deque<std::promise<void>> done_;
  std::unique_ptr<Engine> engine_;  // last: it still tells the above
};

Tokens tokens_of(const RecordedRequest& recorded, size_t choice = 0) {
  Tokens tokens;
  for (const TokenInfo& info : recorded.tokens.at(choice)) tokens.push_back(info.picked.token);
  return tokens;
}

struct Goldens {
  const char* model;
  const char* first;
  const char* second;
};

const Goldens all_goldens[] = {{"llama-f32.gguf", "llama-f32.attention", "llama-f32.all"},
                               {"qwen2-f32.gguf", "qwen2-f32.gate", "qwen2-f32.all"}};

TEST(AdapterServing, EachRequestOfABatchGetsItsOwnAdapterAlsoFromThePrefixCache) {
  for (const Goldens& g : all_goldens) {
    const Tokens prompt = golden_tokens(g.first, "tokens");
    const Tokens wanted[] = {golden_tokens(g.first, "base_continuation"),
                             golden_tokens(g.first, "continuation"),
                             golden_tokens(g.second, "continuation")};
    for (const bool batch_invariant : {false, true}) {
      SCOPED_TRACE(testing::Message() << g.model << (batch_invariant ? " batch-invariant" : ""));
      EngineOptions options = options_with(two_adapters(g.first, g.second));
      options.batch_invariant = batch_invariant;
      Served served(Engine::start(golden(g.model), options));
      ASSERT_EQ(served.engine().model_info().adapters.size(), 2u);
      EXPECT_EQ(served.engine().model_info().adapters[1].name, "second");
      for (const bool is_known : {false, true}) {
        std::vector<const RecordedRequest*> answers;
        for (const int adapter : {1, -1, 0}) {
          answers.push_back(&served.ask(prompt, adapter, /*choices=*/adapter == 0 ? 2 : 1));
        }
        served.wait();
        for (size_t i = 0; i < 3; ++i) {
          const size_t adapter = std::vector<size_t>{2, 0, 1}[i];
          EXPECT_EQ(answers[i]->finish->usage.cached_tokens, is_known ? 16 : 0);
          for (size_t choice = 0; choice < answers[i]->reasons.size(); ++choice) {
            EXPECT_EQ(tokens_of(*answers[i], choice), wanted[adapter])
                << "adapter " << static_cast<int>(adapter) - 1 << ", choice " << choice;
          }
        }
      }
    }
  }
}

// A repeated answer is guessed from the one before, so guesses are checked with the adapter too.
TEST(AdapterServing, GuessesAreCheckedWithTheAdapter) {
  const Goldens& g = all_goldens[1];
  const Tokens wanted = golden_tokens(g.second, "continuation");
  Tokens prompt = golden_tokens(g.second, "tokens");
  for (const bool speculation : {true, false}) {
    EngineOptions options = options_with(two_adapters(g.first, g.second));
    options.speculation = speculation;
    options.draft_model = speculation ? golden(g.model) : "";
    Served served(Engine::start(golden(g.model), options));
    const RecordedRequest& answer = served.ask(prompt, 1);
    served.wait();
    EXPECT_EQ(tokens_of(answer), wanted) << "speculation " << speculation;
  }
}

TEST(AdapterServing, AScaleOfZeroLeavesTheModelAsItIs) {
  const Goldens& g = all_goldens[0];
  std::vector<AdapterOptions> adapters = two_adapters(g.first, g.second);
  adapters[0].scale = 0;
  Served served(Engine::start(golden(g.model), options_with(adapters)));
  const RecordedRequest& answer = served.ask(golden_tokens(g.first, "tokens"), 0);
  served.wait();
  EXPECT_EQ(tokens_of(answer), golden_tokens(g.first, "base_continuation"));
}

TEST(AdapterServing, EmbeddingsAreTheAdapters) {
  const Goldens& g = all_goldens[0];
  Served served(Engine::start(golden(g.model), options_with(two_adapters(g.first, g.second))));
  std::vector<const RecordedRequest*> answers;
  for (const int adapter : {-1, 0, 1, -1, 0, 1}) {
    Request request;
    request.prompt_tokens = golden_tokens(g.first, "tokens");
    request.adapter = adapter;
    request.embedding = Pooling::mean;
    answers.push_back(&served.submit(std::move(request)));
  }
  served.wait();
  const auto distance = [&](size_t a, size_t b) {
    double sum = 0;
    for (size_t i = 0; i < answers[a]->embedding->size(); ++i) {
      sum += std::pow((*answers[a]->embedding)[i] - (*answers[b]->embedding)[i], 2);
    }
    return std::sqrt(sum);
  };
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_LT(distance(i, i + 3), 1e-3);
    EXPECT_GT(distance(i, (i + 1) % 3), 0.1);
  }
}

// Where there is room for one model alone, so that each is unloaded for the other.
TEST(AdapterServing, AreLoadedWithTheirModelAndUnloadedWithIt) {
  const Goldens& g = all_goldens[0];
  const SteadyClock clock;
  Residency residency({.budget_bytes = 1}, clock);
  Served other(Engine::on_demand(golden("llama-f16.gguf"), options_with({}), residency,
                                 /*is_pinned=*/false));
  Served served(Engine::on_demand(golden(g.model), options_with(two_adapters(g.first, g.second)),
                                  residency, /*is_pinned=*/false));
  ASSERT_EQ(served.engine().model_info().adapters.size(), 2u);
  EXPECT_EQ(served.engine().model_info().adapters[0].bytes, 27648u);
  const Tokens prompt = golden_tokens(g.first, "tokens");
  for (int round = 0; round < 2; ++round) {
    const RecordedRequest& answer = served.ask(prompt, 1);
    served.wait();
    EXPECT_EQ(tokens_of(answer), golden_tokens(g.second, "continuation"));
    EXPECT_EQ(answer.finish->usage.cached_tokens, 0) << "the model was not unloaded";
    other.ask(prompt, -1);
    other.wait();
  }
}

TEST(AdapterServing, AnAdapterThatDoesNotFitIsRefusedBeforeTheModelIsLoaded) {
  const std::string model = golden("llama-f32.gguf");
  const std::pair<std::string, const char*> wrong[] = {
      {"adapters/qwen2-f32.all.gguf", "is for the architecture 'qwen2', but the model is 'llama'"},
      {"adapters/qwen2-f32.all", "it is another model's adapter"},
      {"adapters/nothing", "cannot open the file"},
      {"llama-f32.gguf", "'adapter' is expected"},
  };
  const SteadyClock clock;
  Residency residency({}, clock);
  for (const auto& [path, message] : wrong) {
    EngineOptions options = options_with({{"a", golden(path)}});
    options.load_progress = [](int64_t, int64_t) { ADD_FAILURE() << "weights were loaded"; };
    for (const bool on_demand : {false, true}) {
      try {
        if (on_demand) {
          Engine::on_demand(model, options, residency, /*is_pinned=*/false);
        } else {
          Engine::start(model, options);
        }
        ADD_FAILURE() << path << " was accepted";
      } catch (const Error& error) {
        EXPECT_THAT(error.message(), HasSubstr(message));
      }
    }
  }
}

}  // namespace
}  // namespace ridge::engine::adapter_serving_test
