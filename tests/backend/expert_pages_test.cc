#include "backend/cpu/expert_pages.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "backend/cpu/open.h"
#include "backend/recorder.h"
#include "base/error.h"
#include "base/sanitizers.h"
#include "conformance/random_weights.h"

namespace ridge::backend::cpu::expert_pages_test {

namespace {

using conformance::random_values;
using conformance::random_weight;
using conformance::TestWeightPointer;

constexpr int experts = 7;
constexpr int top_k = 3;
constexpr int columns = 256;
constexpr int inner = 256;
constexpr int most_tokens = 70;

// Sources of a layer's experts: gate and up of two types, and what follows.
struct Layer {
  TestWeightPointer gate_up, down;

  Layer(conformance::Random& random, DType dtype, DType other)
      : gate_up(random_weight(random, {{dtype, inner}, {other, inner}}, columns, WeightUse::linear,
                              experts)),
        down(random_weight(random, {{dtype, columns}}, inner, WeightUse::linear, experts)) {}
};

// Counts what is asked of the rows.
struct Asked {
  int will_read = 0, fetched = 0, released = 0;
  std::function<void()> on_fetch = [] {};

  ExpertPaging paging(int held) {
    return {.held = held,
            .will_read = [this](const TensorView&) { ++will_read; },
            .fetch =
                [this](const TensorView&) {
                  on_fetch();
                  ++fetched;
                },
            .release = [this](const TensorView&) { ++released; }};
  }
};

// x → route → gate·up → activation → down, on one device.
class Experts {
 public:
  // held: negative where nothing is paged.
  Experts(Device& device, const Layer& layer, int held, Precision precision,
          bool batch_invariant = false)
      : stream_(device.create_stream()) {
    const auto prepare = [&](const TestWeightPointer& weight) {
      WeightSource source = weight->source;
      if (held >= 0) source.paging = asked.paging(held);
      return device.prepare_weight(source);
    };
    gate_up_ = prepare(layer.gate_up);
    down_ = prepare(layer.down);
    Recorder ops({.tokens = most_tokens,
                  .sequences = 1,
                  .outputs = 1,
                  .batch_invariant = batch_invariant},
                 {}, DType::f32);
    const Value x = ops.given(Rows::tokens, columns);
    const Value logits = ops.given(Rows::tokens, experts);
    const auto routed = ops.route(logits, {.experts = experts, .top_k = top_k});
    const Value both = ops.expert_linear(x, *gate_up_, routed.ids, {}, precision);
    const Value gated = ops.gated_activation(both, Activation::silu, top_k);
    ops.mark_output(ops.expert_linear(gated, *down_, routed.ids, routed.weights, precision));
    recording_ = ops.finish();
    program_ = device.compile(recording_);
  }

  // [tokens, columns]
  std::vector<float> run(std::span<const float> x, std::span<const float> logits) {
    const auto tokens = static_cast<int>(logits.size()) / experts;
    std::memcpy(program_->given(0).host_data(), x.data(), logits.size() / experts * columns * 4);
    std::memcpy(program_->given(1).host_data(), logits.data(), logits.size_bytes());
    stream_->run(*program_, {.tokens = tokens, .sequences = 1});
    std::vector<float> out(static_cast<size_t>(tokens * columns));
    std::memcpy(out.data(), program_->output(0).host_data(), out.size() * 4);
    return out;
  }

  Asked asked;

 private:
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Weight> gate_up_, down_;
  Recording recording_;
  std::unique_ptr<Program> program_;
};

std::unique_ptr<Device> open_isa(const std::string& isa, int threads = 2) {
  return open({.threads = threads, .isa = isa, .threads_spin = false, .allow_emulation = true});
}

std::vector<std::string> every_isa() {
  std::vector<std::string> isas = available_isas();
  for (const std::string& isa : emulated_isas()) isas.push_back(isa);
  return isas;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Logits that choose the given experts, the first most clearly.
std::vector<float> choosing(std::vector<std::vector<int>> tokens) {
  std::vector<float> logits;
  for (const std::vector<int>& choices : tokens) {
    std::vector<float> row(experts, -10.0f);
    float logit = 2;
    for (int expert : choices) row[static_cast<size_t>(expert)] = logit -= 0.25f;
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

class ExpertPagesOnEveryIsa : public testing::TestWithParam<std::string> {};

TEST_P(ExpertPagesOnEveryIsa, GiveTheSameBitsAsHeldExperts) {
  conformance::Random random(3);
  const auto device = open_isa(GetParam());
  std::vector<std::pair<DType, DType>> dtypes = {{DType::q4_k, DType::q6_k},
                                                 {DType::q8_0, DType::q8_0},
                                                 {DType::bf16, DType::f32},
                                                 {DType::q4_0, DType::bf16}};
  const bool is_slow = GetParam().find("emulated") != std::string::npos || (is_sanitized && GetParam() == "scalar");
  if (is_slow) dtypes.resize(1);
  for (const auto& [dtype, other] : dtypes) {
    const Layer layer(random, dtype, other);
    for (const Precision precision : {Precision::full, Precision::bf16, Precision::int8}) {
      Experts whole(*device, layer, -1, precision);
      Experts none(*device, layer, 0, precision);
      Experts one(*device, layer, 1, precision);
      Experts some(*device, layer, 4, precision);
      for (const int tokens : {1, 2, 3, 1, 40, 1, most_tokens, 1, 5}) {
        const auto rows = static_cast<size_t>(tokens);
        const std::vector<float> x = random_values(random, rows * columns);
        const std::vector<float> logits = random_values(random, rows * experts);
        const std::vector<float> expected = whole.run(x, logits);
        for (Experts* paged : {&none, &one, &some}) {
          ASSERT_TRUE(same_bits(paged->run(x, logits), expected))
              << name(dtype) << ", " << tokens << " tokens, precision "
              << static_cast<int>(precision);
        }
      }
    }
  }
}

TEST_P(ExpertPagesOnEveryIsa, GiveTheSameBitsWhereStepsMustNotHangOnTheirNeighbours) {
  conformance::Random random(4);
  const auto device = open_isa(GetParam(), /*threads=*/3);
  const Layer layer(random, DType::q4_k, DType::q4_k);
  Experts whole(*device, layer, -1, Precision::full, /*batch_invariant=*/true);
  Experts paged(*device, layer, 2, Precision::full, /*batch_invariant=*/true);
  const std::vector<float> x = random_values(random, 20 * columns);
  const std::vector<float> logits = random_values(random, 20 * experts);
  const std::vector<float> together = paged.run(x, logits);
  EXPECT_TRUE(same_bits(together, whole.run(x, logits)));
  for (size_t t = 0; t < 20; ++t) {
    const auto alone = paged.run(std::span(x).subspan(t * columns, columns),
                                 std::span(logits).subspan(t * experts, experts));
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(),
                           together.begin() + static_cast<ptrdiff_t>(t * columns)));
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ExpertPagesOnEveryIsa, testing::ValuesIn(every_isa()),
                         [](const auto& info) { return info.param; });

TEST(ExpertPages, CountWhatIsHeldAndWhatIsRead) {
  conformance::Random random(5);
  const auto device = open_isa("");
  const Layer layer(random, DType::q8_0, DType::q8_0);
  const std::vector<float> x = random_values(random, 2 * columns);
  Experts paged(*device, layer, 3, Precision::full);
  const uint64_t of_gate_up = layer.gate_up->source.segments[0].bytes.size() * 2 / experts;
  const uint64_t of_down = layer.down->source.segments[0].bytes.size() / experts;
  // Free places are taken at once: all three are read, then found.
  paged.run(x, choosing({{0, 1, 2}}));
  ExpertCounters counters = device->expert_counters();
  EXPECT_EQ(counters.hits, 0u);
  EXPECT_EQ(counters.misses, 6u);
  EXPECT_EQ(counters.read_bytes, 3 * (of_gate_up + of_down));
  EXPECT_EQ(counters.held_bytes,
            3 * (device->prepared_bytes(layer.gate_up->source) +
                 device->prepared_bytes(layer.down->source)) / experts);
  paged.run(x, choosing({{2, 1, 0}}));
  EXPECT_EQ(device->expert_counters().hits, 6u);
  EXPECT_EQ(device->expert_counters().misses, 6u);
  // Used once, against two: 3 gets no place; of two tokens' experts each counts once.
  paged.run(x, choosing({{0, 1, 3}, {1, 0, 3}}));
  counters = device->expert_counters();
  EXPECT_EQ(counters.hits, 10u);
  EXPECT_EQ(counters.misses, 8u);
  // 3 has now been used as often as 2, and then oftener, so that it takes its place.
  paged.run(x, choosing({{0, 1, 3}}));
  paged.run(x, choosing({{0, 1, 3}}));
  EXPECT_EQ(device->expert_counters().misses, 12u);
  paged.run(x, choosing({{0, 1, 3}}));
  EXPECT_EQ(device->expert_counters().misses, 12u);
  EXPECT_EQ(device->expert_counters().hits, 24u);
  paged.run(x, choosing({{0, 1, 2}}));
  EXPECT_EQ(device->expert_counters().misses, 14u);
}

TEST(ExpertPages, GiveTheirMemoryBack) {
  conformance::Random random(6);
  const auto device = open_isa("");
  const Layer layer(random, DType::q8_0, DType::q8_0);
  { const Experts paged(*device, layer, 3, Precision::full); }
  EXPECT_EQ(device->expert_counters().held_bytes, 0u);
  Experts(*device, layer, 0, Precision::full)
      .run(random_values(random, columns), choosing({{0, 1, 2}}));
  // What the weights that are gone have read is no longer to be released.
  Experts(*device, layer, 0, Precision::full)
      .run(random_values(random, columns), choosing({{0, 1, 2}}));
}

TEST(ExpertPages, AskForALayersExpertsTogetherAndReleaseWhatWasRead) {
  conformance::Random random(7);
  const auto device = open_isa("");
  const Layer layer(random, DType::q8_0, DType::q8_0);
  const std::vector<float> x = random_values(random, columns);
  Experts paged(*device, layer, 0, Precision::full);
  int announced = -1;
  paged.asked.on_fetch = [&] {
    if (announced < 0) announced = paged.asked.will_read;
  };
  paged.run(x, choosing({{4, 5, 6}}));
  EXPECT_EQ(announced, 6);                 // gate and up of three, before the first is fetched
  EXPECT_EQ(paged.asked.fetched, 9);       // and down
  EXPECT_EQ(paged.asked.will_read, 6 + 3 + 3);
  // Gate and up were done with when down began, down when the next step did.
  EXPECT_EQ(paged.asked.released, 6);
  paged.run(x, choosing({{4, 5, 6}}));
  EXPECT_EQ(paged.asked.released, 9 + 6);
}

TEST(ExpertPages, PassOnWhatTheFileThrowsAndGoOn) {
  conformance::Random random(8);
  const auto device = open_isa("", /*threads=*/3);
  const Layer layer(random, DType::q4_k, DType::q4_k);
  const std::vector<float> x = random_values(random, columns);
  const std::vector<float> logits = choosing({{1, 3, 5}});
  const std::vector<float> expected = Experts(*device, layer, -1, Precision::full).run(x, logits);
  for (const int held : {0, 2, 6}) {
    Experts paged(*device, layer, held, Precision::full);
    // One after the other fails: of gate and up, and of down, which comes after a step that worked.
    for (int good = 0; good < 9; ++good) {
      int calls = 0;
      paged.asked.on_fetch = [&] {
        if (calls++ == good) throw Error(ErrorCode::invalid_file, "damaged");
      };
      try {
        paged.run(x, logits);
        // Where all were found in memory, nothing can fail.
        EXPECT_LE(calls, good);
        EXPECT_GT(held, 0);
      } catch (const Error& error) {
        EXPECT_EQ(error.message(), "damaged");
      }
    }
    paged.asked.on_fetch = [] {};
    EXPECT_TRUE(same_bits(paged.run(x, logits), expected)) << held;
    EXPECT_TRUE(same_bits(paged.run(x, logits), expected)) << held;
  }
}

}  // namespace

}  // namespace ridge::backend::cpu::expert_pages_test
