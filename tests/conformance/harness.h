#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/recorder.h"
#include "base/sanitizers.h"
#include "conformance/random_weights.h"
#include "conformance/tolerances.h"

namespace ridge::conformance {

// A device under test, opened anew for each test.
struct DeviceChoice {
  std::string name;  // as backend::open_device
  std::string isa;   // "" where there is but one
  bool emulated = false;
};
// All devices of the build but the reference, at each instruction set.
std::vector<DeviceChoice> device_choices();
// The same and the instruction sets that a device imitates here, for the ops that they change.
std::vector<DeviceChoice> device_choices_with_emulated();
std::string test_name(const DeviceChoice& choice);  // "cpu_avx2"
// GoogleTest shows parameters in this way, and else as bytes.
inline void PrintTo(const DeviceChoice& choice, std::ostream* out) { *out << test_name(choice); }
std::unique_ptr<backend::Device> open_for_test(const DeviceChoice& choice, bool threads_in_turns = true);

// The token counts that every op meets: below, at and beyond the sizes of register tiles. Under
// sanitizers fewer, and so below: each kernel, dtype, instruction set and remainder all the same.
inline const std::vector<int> awkward_tokens =
    is_sanitized ? std::vector<int>{1, 2, 3, 5, 8, 17, 33}
                 : std::vector<int>{1, 2, 3, 5, 8, 13, 16, 17, 33, 70};

// What the engine would upload before one replay.
struct StepInputs {
  std::vector<int32_t> token_ids, positions, slots, query_starts, context_lengths, block_tables,
      output_rows, adapter_of_row, block_copies;
};

// Lays sequences over a paged cache, block by block in scattered order.
class StepPlanner {
 public:
  explicit StepPlanner(int block_tokens = 16, int blocks_per_sequence = 8, int max_sequences = 6)
      : block_tokens_(block_tokens),
        blocks_per_sequence_(blocks_per_sequence),
        lengths_(max_sequences, 0) {}

  struct Part {
    int sequence;
    int tokens;
  };
  // The next step; token ids count on from those of the steps before.
  StepInputs step(const std::vector<Part>& parts);

  int blocks() const { return static_cast<int>(lengths_.size()) * blocks_per_sequence_; }
  int block_tokens() const { return block_tokens_; }
  int blocks_per_sequence() const { return blocks_per_sequence_; }
  int block_of(int sequence, int index) const;

 private:
  int block_tokens_;
  int blocks_per_sequence_;
  std::vector<int> lengths_;
  int next_id_ = 0;
};

// One sequence of each count in turn, each afresh, with every other row wanted as output.
std::vector<StepInputs> independent_steps(const std::vector<int>& token_counts);

// What a case's recording function may use.
class Kit {
 public:
  Kit(backend::Device& device, backend::Recorder& recorder, backend::KvCache* cache)
      : device_(device), recorder_(recorder), cache_(cache) {}
  const backend::Weight& weight(const TestWeightPointer& weight);
  backend::KvCache& cache() { return *cache_; }
  void output(backend::Value value) { recorder_.mark_output(value); }

 private:
  friend class CaseRun;
  backend::Device& device_;
  backend::Recorder& recorder_;
  backend::KvCache* cache_;
  std::vector<std::unique_ptr<backend::Weight>> weights_;
};

// One program and the steps that it is replayed for. The activation x[T, columns] that `record`
// receives holds row token_ids[t] of `inputs`.
struct Case {
  std::string name;
  int columns = 0;
  std::vector<float> inputs;  // [ids, columns]
  std::vector<StepInputs> steps;
  std::optional<backend::KvCacheLayout> cache;
  std::function<void(backend::Recorder&, backend::Value x, Kit&)> record;
  // One for each output, or one for all. Outputs of integers have rules of their own: i32 is exact,
  // i8 as rounded_codes.
  std::vector<Tolerance> tolerances;
  // Between the steps, on the device's own cache.
  std::function<void(int next_step, backend::KvCache&)> between_steps;
};

// A program's output after one step.
struct Output {
  DType dtype;
  int rows, columns;
  std::vector<double> values;  // [rows, columns]
};
// By step, then by output.
std::vector<std::vector<Output>> run_case(const Case& test_case, backend::Device& device);

// Runs the case on the device and on the reference and compares. A device that lacks an op of it,
// as lacks.h declares, marks the test as skipped, with the case in the message and in the summary.
void expect_conforms(const Case& test_case, const DeviceChoice& choice);

class DeviceTest : public testing::TestWithParam<DeviceChoice> {
 protected:
  void expect_conforms(const Case& test_case) {
    conformance::expect_conforms(test_case, GetParam());
  }
};

#define INSTANTIATE_FOR(choices, suite)                                  \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(suite);                  \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::ValuesIn(choices()), \
                           [](const auto& info) { return test_name(info.param); })
#define INSTANTIATE_FOR_DEVICES(suite) INSTANTIATE_FOR(device_choices, suite)

}  // namespace ridge::conformance
