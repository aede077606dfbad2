#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/fake_runner.h"
#include "engine/recorded_request.h"
#include "engine/step_loop.h"
#include "format/gguf.h"
#include "text/tokenizer.h"

namespace ridge::engine {

// Of a small machine on which four short requests find room.
inline constexpr RunnerLimits roomy_limits = {.tokens = 32,
                                              .sequences = 4,
                                              .outputs = 4,
                                              .context_tokens = 128,
                                              .block_tokens = 4,
                                              .blocks = 128};

// Where answers have forms and thoughts, which are longer.
inline constexpr RunnerLimits roomy = {.tokens = 64,
                                       .sequences = 4,
                                       .outputs = 4,
                                       .context_tokens = 512,
                                       .block_tokens = 4,
                                       .blocks = 256};
// The same with room for guesses.
inline constexpr RunnerLimits wide = {.tokens = 64,
                                      .sequences = 4,
                                      .outputs = 32,
                                      .context_tokens = 512,
                                      .block_tokens = 4,
                                      .blocks = 256};

// A real, small vocabulary.
inline std::shared_ptr<const text::Tokenizer> small_tokenizer() {
  static const auto tokenizer = text::Tokenizer::from_gguf(
      format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/llama-f32.gguf"));
  return tokenizer;
}

// A step loop whose model answers every prompt with the same script.
class LoopFixture {
 public:
  explicit LoopFixture(const RunnerLimits& limits, std::string_view script = "",
                       bool then_ends = true,
                       std::shared_ptr<const text::Tokenizer> tokenizer = small_tokenizer())
      : runner(limits, tokenizer->vocab_size(),
               [this](const auto& context) { return next(context); }),
        loop(runner, tokenizer, clock),
        tokenizer_(std::move(tokenizer)),
        then_ends_(then_ends),
        script_(tokenizer_->encode(script)) {}

  // A prompt of `tokens` tokens; each prompt starts with another token.
  Request request(int tokens, int max_tokens) {
    Request request;
    request.prompt_tokens.assign(static_cast<size_t>(tokens), 7);
    request.prompt_tokens[0] = 20 + static_cast<int32_t>(recorded.size());
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0.0f;
    return request;
  }
  RecordedRequest& add(Request request) {
    recorded.emplace_back(request.choices);
    const RequestId id{recorded.size()};
    prompt_tokens_ = request.prompt_tokens.size();
    RequestListener listener = recorded.back().listener();
    loop.add(id, std::move(request), std::move(listener), clock.now());
    return recorded.back();
  }
  void run_all(int most_steps = 1000) {
    for (int i = 0; loop.has_work(); ++i) {
      ASSERT_LT(i, most_steps) << "no progress";
      loop.step();
    }
    EXPECT_EQ(loop.stats().blocks_free, loop.stats().blocks_total) << "a block leaked";
  }

  int32_t next(const std::vector<int32_t>& context) const {
    const size_t generated = context.size() - prompt_tokens_;
    if (generated < script_.size()) return script_[generated];
    return then_ends_ ? *tokenizer_->eos() : tokenizer_->encode("a").front();
  }

  FakeClock clock;
  FakeRunner runner;
  StepLoop loop;
  std::deque<RecordedRequest> recorded;

 private:
  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  size_t prompt_tokens_ = 0;  // of the last request; scripted tests use one length
  bool then_ends_;
  std::vector<int32_t> script_;
};

}  // namespace ridge::engine
