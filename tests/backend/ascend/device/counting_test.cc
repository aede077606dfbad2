#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "backend/ascend/device/even_choices.h"
#include "backend/ascend/device/open.h"
#include "backend/ascend/twin/acl/control.h"
#include "backend/own_memory.h"
#include "backend/recorder.h"
#include "backend/step_profile.h"

namespace ridge::backend::ascend::counting_test {
namespace {

TEST(EvenChoices, GiveEachExpertAsManyRowsAsCanBe) {
  constexpr uint32_t experts = 7, choices = 30, of_row = 3;
  const EvenChoices even(experts, choices, of_row);
  ASSERT_EQ(even.ids.size(), choices);
  ASSERT_EQ(even.starts.size(), experts + 1);
  EXPECT_EQ(even.starts.front(), 0);
  EXPECT_EQ(even.starts.back(), static_cast<int32_t>(choices));
  for (uint32_t e = 0; e < experts; ++e) {
    const auto rows = even.starts[e + 1] - even.starts[e];
    EXPECT_EQ(rows, std::ranges::count(even.ids, static_cast<int32_t>(e)));
    EXPECT_TRUE(rows == 4 || rows == 5) << rows;
  }
  std::set<int32_t> places;
  for (uint32_t c = 0; c < choices; ++c) {
    const auto place = even.places[c], expert = even.ids[c];
    EXPECT_TRUE(places.insert(place).second);
    EXPECT_GE(place, even.starts[static_cast<size_t>(expert)]);
    EXPECT_LT(place, even.starts[static_cast<size_t>(expert) + 1]);
    EXPECT_EQ(even.rows[static_cast<size_t>(place)], static_cast<int32_t>(c / of_row));
  }
  // A token has no expert twice.
  for (uint32_t c = 0; c < choices; c += of_row) {
    EXPECT_EQ(std::set(even.ids.begin() + c, even.ids.begin() + c + of_row).size(), of_row);
  }
}

struct Work {
  int launches = 0;
  uint64_t moved_bytes = 0;
  uint64_t macs = 0;
  bool operator==(const Work&) const = default;
};
using WorkOfKernels = std::map<std::string, Work>;

// Tokens through experts that their words choose: word w chooses experts w · top_k and the next ones.
class Experts {
 public:
  static constexpr int tokens = 20, experts = 12, top_k = 3, width = 64, words = experts / top_k;

  void run(Device& device) {
    constexpr int row = experts + width;
    std::vector<float> table_values(words * row, 0.25f);
    for (int word = 0; word < words; ++word) {
      for (int e = 0; e < experts; ++e) {
        // Those that are wanted have 3, 2 and 1.
        const int behind = e - word * top_k;
        table_values[static_cast<size_t>(word * row + e)] =
            behind >= 0 && behind < top_k ? static_cast<float>(top_k - behind) : -1;
      }
    }
    const std::vector<float> matrix_values(experts * width * width, 0.5f);
    const auto source = [](const std::vector<float>& values, Shape shape, WeightUse use) {
      return WeightSource{.name = "w",
                          .segments = {{DType::f32, shape, std::as_bytes(std::span(values))}},
                          .use = use};
    };
    const auto table = device.prepare_weight(
        source(table_values, Shape{words, row}, WeightUse::embedding));
    const auto weight = device.prepare_weight(
        source(matrix_values, Shape{experts, width, width}, WeightUse::linear));
    const auto ids = device.allocate(tokens * sizeof(int32_t));
    Recorder recorder({.tokens = tokens}, {.token_ids = ids.get()}, device.activation_dtype());
    const Value x = recorder.embed(*table);
    const auto routed =
        recorder.route(x.slice(0, experts), {.experts = experts, .top_k = top_k});
    recorder.mark_output(
        recorder.expert_linear(x.slice(experts, width), *weight, routed.ids, routed.weights));
    const Recording recording = recorder.finish();
    const auto program = device.compile(recording);
    const auto stream = device.create_stream();
    std::vector<int32_t> words_of_tokens(tokens);
    for (int t = 0; t < tokens; ++t) words_of_tokens[static_cast<size_t>(t)] = t % words;
    stream->upload(*ids, 0, std::as_bytes(std::span(words_of_tokens)));
    stream->run(*program, {.tokens = tokens});
    stream->synchronize();
  }
};

WorkOfKernels executed() {
  WorkOfKernels work;
  twin_acl::observe_launches([&](const twin::KernelImage& kernel, uint32_t,
                                 const std::shared_ptr<const twin::LaunchReport>& report) {
    Work& of = work[kernel.name];
    ++of.launches;
    of.moved_bytes += report->traffic.moved_bytes;
    of.macs += report->cube[static_cast<int>(twin::Pipe::m)].macs;
  });
  Experts().run(*open_twin("910B4", {}));
  twin_acl::observe_launches({});
  return work;
}

WorkOfKernels counted() {
  const auto device = open_counting_twin("910B4");
  Experts().run(*device);
  WorkOfKernels work;
  for (const auto& launch : dynamic_cast<StepCounter&>(*device).take_profile().launches) {
    Work& of = work[launch->kernel];
    ++of.launches;
    of.moved_bytes += launch->moved_bytes;
    of.macs += launch->macs;
  }
  return work;
}

// Of tokens whose router spreads them evenly, what is counted is what is done.
TEST(Counting, OfExpertsIsTheWorkOfAnEvenRouter) {
  const WorkOfKernels wanted = executed(), got = counted();
  ASSERT_TRUE(wanted.contains("ridge_expert_linear_f16"));
  EXPECT_EQ(wanted.at("ridge_expert_linear_f16").macs,
            uint64_t{Experts::tokens} * Experts::top_k * Experts::width * Experts::width);
  for (const auto& [kernel, work] : wanted) {
    ASSERT_TRUE(got.contains(kernel)) << kernel;
    EXPECT_EQ(got.at(kernel).launches, work.launches) << kernel;
    EXPECT_EQ(got.at(kernel).moved_bytes, work.moved_bytes) << kernel;
    EXPECT_EQ(got.at(kernel).macs, work.macs) << kernel;
  }
  EXPECT_EQ(got.size(), wanted.size());
}

// What is counted takes no memory, so that any model can be; the chip is told as it is.
TEST(Counting, HasMemoryForMoreThanTheChipHolds) {
  {
    const auto device = open_counting_twin("910B4");
    const auto& memory = dynamic_cast<const OwnMemory&>(*device);
    EXPECT_EQ(device->info().memory_bytes, uint64_t{32} << 30);
    const uint64_t before = memory.free_memory_bytes();
    const KvCacheLayout layout{.layers = 64, .blocks = 16384, .kv_heads = 16, .key_dim = 128,
                               .value_dim = 128};
    const auto cache = device->create_kv_cache(layout);
    EXPECT_GT(before - memory.free_memory_bytes(), uint64_t{100} << 30);
  }
  // Only where it counts.
  const auto device = open_twin("910B4", {});
  EXPECT_LE(dynamic_cast<const OwnMemory&>(*device).free_memory_bytes(), uint64_t{32} << 30);
}

}  // namespace
}  // namespace ridge::backend::ascend::counting_test
