#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "backend/ascend/device/open.h"
#include "backend/ascend/twin/acl/control.h"
#include "backend/recorder.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

using testing::HasSubstr;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.message());
  }
  return "no error";
}

struct Floats {
  explicit Floats(std::vector<float> given, Shape shape) : values(std::move(given)), shape(shape) {}
  WeightSource source(WeightUse use) const {
    return {.name = "w",
            .segments = {{DType::f32, shape, std::as_bytes(std::span(values))}},
            .use = use};
  }
  std::vector<float> values;
  Shape shape;
};

// table[ids] · 2, as one program.
class Doubling {
 public:
  explicit Doubling(Device& device) : stream_(device.create_stream()), ids_(device.allocate(16)) {
    table_ = device.prepare_weight(table_values_.source(WeightUse::embedding));
    Recorder recorder({.tokens = 4}, {.token_ids = ids_.get()}, device.activation_dtype());
    recorder.mark_output(recorder.scale(recorder.embed(*table_), 2.0f));
    recording_ = recorder.finish();
    program_ = device.compile(recording_);
  }
  void queue(const std::vector<int32_t>& ids) {
    stream_->upload(*ids_, 0, std::as_bytes(std::span(ids)));
    stream_->run(*program_, {.tokens = static_cast<int>(ids.size())});
  }
  std::vector<float> result(size_t rows) {
    std::vector<float> values(rows * 2);
    stream_->download(program_->output(0), 0, std::as_writable_bytes(std::span(values)));
    stream_->synchronize();
    return values;
  }
  Stream& stream() { return *stream_; }

 private:
  Floats table_values_{{1, 2, 3, 4, 5, 6}, Shape{3, 2}};
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Buffer> ids_;
  std::unique_ptr<Weight> table_;
  Recording recording_;
  std::unique_ptr<Program> program_;
};

TEST(AscendDevice, StepsThatAreQueuedWithoutWaitingSeeTheirOwnInputs) {
  const auto device = open_twin("910B4", {});
  Doubling doubling(*device);
  doubling.queue({0, 1});
  doubling.queue({2});
  EXPECT_EQ(doubling.result(1), (std::vector<float>{10, 12}));
  doubling.queue({1, 1, 0});
  EXPECT_EQ(doubling.result(3), (std::vector<float>{6, 8, 6, 8, 2, 4}));
}

TEST(AscendDevice, EventsAreReached) {
  const auto device = open_twin("910B4", {});
  Doubling doubling(*device);
  doubling.queue({2});
  const auto event = doubling.stream().record_event();
  event->wait();
  EXPECT_TRUE(event->reached());
}

TEST(AscendDevice, HasOneChipInAProcess) {
  const auto device = open_twin("910B4", {});
  EXPECT_EQ(device->info().name, "ascend-twin:910B4");
  EXPECT_THAT(message_of([] { open_twin("910B2", {}); }),
              HasSubstr("already has a twin of 910B4; it can have one chip at a time"));
  EXPECT_THAT(message_of([] { open_twin("910Z", {}); }), HasSubstr("there are 910B1, 910B2"));
}

TEST(AscendDevice, AnotherChipComesWhenTheLastIsGone) {
  EXPECT_EQ(open_twin("910B4", {})->info().memory_bytes, uint64_t{32} << 30);
  EXPECT_EQ(open_twin("910B2", {})->info().memory_bytes, uint64_t{64} << 30);
}

TEST(AscendDevice, OutOfMemoryNamesTheWeightAndWhatIsFree) {
  ridge_ascend_twin_set("memory_bytes", "1048576");
  {
    const auto device = open_twin("910B4", {});
    const Floats large(std::vector<float>(1 << 20), Shape{1024, 1024});
    const std::string message =
        message_of([&] { device->prepare_weight(large.source(WeightUse::linear)); });
    EXPECT_THAT(message, HasSubstr("weight w: aclrtMalloc of 2097152 bytes on device 0"));
    EXPECT_THAT(message, HasSubstr("of 1048576 bytes are free there"));
    const KvCacheLayout layout{.layers = 2, .blocks = 64, .kv_heads = 8, .key_dim = 64,
                               .value_dim = 64};
    EXPECT_THAT(message_of([&] { device->create_kv_cache(layout); }),
                HasSubstr("a KV cache of 64 blocks of 65536 bytes: aclrtMalloc"));
  }
  ridge_ascend_twin_set("memory_bytes", nullptr);
}

// One core sorts 40000 choices of experts: more tokens are multiplied in turns.
TEST(AscendDevice, TokensBeyondWhatOneCoreSortsHaveTheirExpertsToo) {
  constexpr int tokens = 20003, experts = 2, width = 16, words = 5;
  const auto device = open_twin("910B4", {});
  // Both experts, equally: one gives x, the other its double.
  Floats matrices(std::vector<float>(experts * width * width), Shape{experts, width, width});
  for (int e = 0; e < experts; ++e) {
    for (int i = 0; i < width; ++i) {
      matrices.values[static_cast<size_t>((e * width + i) * width + i)] = static_cast<float>(e + 1);
    }
  }
  Floats rows(std::vector<float>(words * (experts + width)), Shape{words, experts + width});
  for (int word = 0; word < words; ++word) {
    for (int i = 0; i < width; ++i) {
      rows.values[static_cast<size_t>(word * (experts + width) + experts + i)] =
          static_cast<float>(word * width + i);
    }
  }
  const auto weight = device->prepare_weight(matrices.source(WeightUse::linear));
  const auto table = device->prepare_weight(rows.source(WeightUse::embedding));
  const auto ids = device->allocate(tokens * sizeof(int32_t));
  Recorder recorder({.tokens = tokens}, {.token_ids = ids.get()}, device->activation_dtype());
  const Value x = recorder.embed(*table);
  const auto routed =
      recorder.route(x.slice(0, experts), {.experts = experts, .top_k = experts});
  recorder.mark_output(
      recorder.expert_linear(x.slice(experts, width), *weight, routed.ids, routed.weights));
  const Recording recording = recorder.finish();
  const auto program = device->compile(recording);
  const auto stream = device->create_stream();
  std::vector<int32_t> words_of_tokens(tokens);
  for (int t = 0; t < tokens; ++t) words_of_tokens[static_cast<size_t>(t)] = t * 3 % words;
  stream->upload(*ids, 0, std::as_bytes(std::span(words_of_tokens)));
  stream->run(*program, {.tokens = tokens});
  std::vector<float> out(tokens * width);
  stream->download(program->output(0), 0, std::as_writable_bytes(std::span(out)));
  stream->synchronize();
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < width; ++i) {
      const float wanted = 1.5f * static_cast<float>(words_of_tokens[t] * width + static_cast<int>(i));
      ASSERT_NEAR(out[t * width + i], wanted, 0x1p-9f * 1.5f * words * width) << t << ", " << i;
    }
  }
}

// From the second time on a shape is a graph; its steps have inputs of their own all the same.
TEST(AscendDevice, AShapeThatComesAgainIsReplayed) {
  const auto device = open_twin("910B4", {});
  Doubling doubling(*device);
  for (const int32_t word : {0, 2, 1}) {
    doubling.queue({word});
    const float first = static_cast<float>(4 * word + 2);
    EXPECT_EQ(doubling.result(1), (std::vector<float>{first, first + 2}));
  }
  // Nothing is launched any more but the graph.
  ridge_ascend_twin_set("fail", "aclrtLaunchKernelWithHostArgs:1");
  doubling.queue({2});
  EXPECT_EQ(doubling.result(1), (std::vector<float>{10, 12}));
  EXPECT_THAT(message_of([&] { doubling.queue({1, 2}); }), HasSubstr("aclrtLaunchKernelWithHostArgs"));
  ridge_ascend_twin_set("fail", "aclmdlRIExecuteAsync:1");
  EXPECT_THAT(message_of([&] { doubling.queue({2}); }), HasSubstr("aclmdlRIExecuteAsync"));
  ridge_ascend_twin_set("fail", nullptr);
}

// Rows of a table in two segments come from the host: what is launched before and behind is replayed all the same.
TEST(AscendDevice, WhatTheHostComputesStandsBetweenGraphs) {
  constexpr size_t width = 32, words = 3;
  std::vector<std::byte> blocks(words * 34);  // Q8_0: a scale and 32 codes
  for (size_t word = 0; word < words; ++word) {
    const uint16_t one = 0x3c00;
    std::memcpy(&blocks[word * 34], &one, 2);
    blocks[word * 34 + 2] = static_cast<std::byte>(word + 1);
  }
  const auto device = open_twin("910B4", {});
  const std::span<const std::byte> all = blocks;
  const auto table = device->prepare_weight({.name = "table",
                                             .segments = {{DType::q8_0, Shape{1, width}, all.first(34)},
                                                          {DType::q8_0, Shape{2, width}, all.subspan(34)}},
                                             .use = WeightUse::embedding});
  const auto ids = device->allocate(4);
  Recorder recorder({.tokens = 1}, {.token_ids = ids.get()}, device->activation_dtype());
  const Value x = recorder.embed(*table);
  recorder.mark_output(recorder.scale(recorder.add(x, recorder.scale(recorder.embed(*table), 3.0f)), 2.0f));
  const Recording recording = recorder.finish();
  const auto program = device->compile(recording);
  const auto stream = device->create_stream();
  for (const int32_t word : {0, 2, 1, 2}) {
    if (word == 1) ridge_ascend_twin_set("fail", "aclrtLaunchKernelWithHostArgs:1");
    stream->upload(*ids, 0, std::as_bytes(std::span(&word, 1)));
    stream->run(*program, {.tokens = 1});
    float first = 0;
    stream->download(program->output(0), 0, std::as_writable_bytes(std::span(&first, 1)));
    EXPECT_EQ(first, 8.0f * static_cast<float>(word + 1));
  }
  ridge_ascend_twin_set("fail", nullptr);
}

TEST(AscendDevice, StepsRunWhereTheyCannotBeCaptured) {
  for (const char* failing : {"aclmdlRICaptureBegin:1", "aclmdlRICaptureEnd:1"}) {
    const auto device = open_twin("910B4", {});
    Doubling doubling(*device);
    ridge_ascend_twin_set("fail", failing);
    testing::internal::CaptureStderr();
    for (const int32_t word : {0, 2, 1}) {
      doubling.queue({word});
      const float first = static_cast<float>(4 * word + 2);
      EXPECT_EQ(doubling.result(1), (std::vector<float>{first, first + 2})) << failing;
    }
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("steps are launched kernel by kernel, as they cannot be captured"));
    ridge_ascend_twin_set("fail", nullptr);
  }
}

TEST(AscendDevice, GraphsCanBeSwitchedOff) {
  const auto device = open_twin("910B4", {});
  setenv(graphs_setting, "off", /*overwrite=*/1);
  Doubling doubling(*device);
  unsetenv(graphs_setting);
  for (int times = 0; times < 2; ++times) {
    doubling.queue({1});
    EXPECT_EQ(doubling.result(1), (std::vector<float>{6, 8}));
  }
  ridge_ascend_twin_set("fail", "aclrtLaunchKernelWithHostArgs:1");
  EXPECT_THAT(message_of([&] { doubling.queue({1}); }), HasSubstr("aclrtLaunchKernelWithHostArgs"));
  ridge_ascend_twin_set("fail", nullptr);
}

TEST(AscendDevice, WhatFailsOnTheChipIsTold) {
  const auto device = open_twin("910B4", {});
  Doubling doubling(*device);
  ridge_ascend_twin_set("fail", "task:2=507015");
  doubling.queue({0});
  EXPECT_THAT(message_of([&] { doubling.result(1); }), HasSubstr("ACL error 507015"));
  ridge_ascend_twin_set("fail", nullptr);
}

}  // namespace

}  // namespace ridge::backend::ascend
