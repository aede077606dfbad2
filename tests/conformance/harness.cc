#include "conformance/harness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <sstream>

#include "backend/registry.h"
#include "base/error.h"
#include "conformance/lacks.h"
#include "tensor/dequantize.h"

namespace ridge::conformance {

namespace {

using backend::Device;

// Told at the end of a run, because a skipped case is easily overlooked.
class Summary : public testing::Environment {
 public:
  void TearDown() override {
    if (!measured_.empty()) fmt::print("Largest errors over the size of the output:\n");
    for (const auto& [name, error] : measured_) {
      fmt::print("  {:<44} rms {:.1e}  worst {:.1e}\n", name, error.rms, error.worst);
    }
    if (!missing_.empty()) fmt::print("NOT CHECKED, because the device lacks the op:\n");
    for (const std::string& line : missing_) fmt::print("  {}\n", line);
  }
  void add_missing(const std::string& line) { missing_.insert(line); }
  void add_error(const std::string& name, double rms, double worst) {
    Tolerance& known = measured_[name];
    known = {std::max(known.rms, rms), std::max(known.worst, worst)};
  }

 private:
  std::set<std::string> missing_;
  std::map<std::string, Tolerance> measured_;
};

Summary& summary() {
  static auto* instance = static_cast<Summary*>(testing::AddGlobalTestEnvironment(new Summary));
  return *instance;
}
// Registered before the tests start, or its TearDown would not be called.
[[maybe_unused]] Summary& registered = summary();

int largest(const std::vector<StepInputs>& steps, std::vector<int32_t> StepInputs::*field) {
  size_t most = 0;
  for (const StepInputs& step : steps) most = std::max(most, (step.*field).size());
  return static_cast<int>(most);
}

}  // namespace

std::vector<DeviceChoice> device_choices() {
  std::vector<DeviceChoice> choices;
  if (const char* wanted = std::getenv("RIDGE_CONFORMANCE_DEVICES")) {
    std::istringstream names(wanted);
    for (std::string name; std::getline(names, name, ',');) choices.push_back({name, ""});
    return choices;
  }
  for (const std::string& name : backend::device_names()) {
    if (name == "reference") continue;
    const std::vector<std::string> isas = backend::device_isas(name);
    if (isas.empty()) choices.push_back({name, ""});
    for (const std::string& isa : isas) choices.push_back({name, isa});
  }
  return choices;
}

std::vector<DeviceChoice> device_choices_with_emulated() {
  std::vector<DeviceChoice> choices = device_choices();
  if (std::getenv("RIDGE_CONFORMANCE_DEVICES") != nullptr) return choices;
  for (const std::string& name : backend::device_names()) {
    for (const std::string& isa : backend::device_emulated_isas(name)) {
      choices.push_back({name, isa, /*emulated=*/true});
    }
  }
  return choices;
}

std::string test_name(const DeviceChoice& choice) {
  std::string name = choice.isa.empty() ? choice.name : choice.name + "_" + choice.isa;
  // GoogleTest wants letters and digits.
  std::ranges::replace_if(name, [](char c) { return c == '-' || c == ':'; }, '_');
  return name;
}

int StepPlanner::block_of(int sequence, int index) const {
  // 5 shares no factor with the number of blocks unless that is a multiple of 5.
  const int number = sequence * blocks_per_sequence_ + index;
  const int stride = blocks() % 5 == 0 ? 7 : 5;
  return (number * stride + 3) % blocks();
}

StepInputs StepPlanner::step(const std::vector<Part>& parts) {
  StepInputs in;
  in.query_starts.push_back(0);
  for (const Part& part : parts) {
    int& length = lengths_.at(part.sequence);
    for (int i = 0; i < part.tokens; ++i, ++length) {
      const int block = block_of(part.sequence, length / block_tokens_);
      RIDGE_ASSERT(length / block_tokens_ < blocks_per_sequence_);
      in.token_ids.push_back(next_id_++);
      in.positions.push_back(length);
      in.slots.push_back(block * block_tokens_ + length % block_tokens_);
    }
    const auto end = static_cast<int32_t>(in.token_ids.size());
    in.query_starts.push_back(end);
    in.context_lengths.push_back(length);
    in.output_rows.push_back(end - 1);
    for (int b = 0; b < blocks_per_sequence_; ++b) {
      in.block_tables.push_back(block_of(part.sequence, b));
    }
  }
  return in;
}

std::vector<StepInputs> independent_steps(const std::vector<int>& token_counts) {
  std::vector<StepInputs> steps;
  for (int tokens : token_counts) {
    StepPlanner planner(/*block_tokens=*/16, /*blocks_per_sequence=*/8, /*max_sequences=*/1);
    StepInputs step = planner.step({{0, tokens}});
    step.output_rows.clear();
    for (int t = (tokens - 1) % 2; t < tokens; t += 2) step.output_rows.push_back(t);
    // The second of each pair of steps sees other values.
    const int first = steps.size() % 2 == 0 ? 0 : 1;
    for (int32_t& id : step.token_ids) id += first;
    steps.push_back(step);
  }
  return steps;
}

const backend::Weight& Kit::weight(const TestWeightPointer& weight) {
  weights_.push_back(device_.prepare_weight(weight->source));
  return *weights_.back();
}

// One device's run of a case.
class CaseRun {
 public:
  CaseRun(const Case& test_case, Device& device)
      : case_(test_case), device_(device), stream_(device.create_stream()) {
    table_ = weight_of(case_.inputs, case_.columns, backend::WeightUse::embedding);
    if (case_.cache) cache_ = device.create_kv_cache(*case_.cache);
    allocate_inputs();
    backend::Recorder recorder(limits_, inputs_, device.activation_dtype());
    kit_ = std::make_unique<Kit>(device, recorder, cache_.get());
    case_.record(recorder, recorder.embed(kit_->weight(table_)), *kit_);
    recording_ = recorder.finish();
    program_ = device.compile(recording_);
  }

  std::vector<Output> step(int index) {
    if (case_.between_steps && index > 0) case_.between_steps(index, *cache_);
    const StepInputs& in = case_.steps[index];
    upload(inputs_.token_ids, in.token_ids);
    upload(inputs_.positions, in.positions);
    upload(inputs_.slots, in.slots);
    upload(inputs_.query_starts, in.query_starts);
    upload(inputs_.context_lengths, in.context_lengths);
    upload(inputs_.block_tables, in.block_tables);
    upload(inputs_.output_rows, in.output_rows);
    upload(inputs_.adapter_of_row, in.adapter_of_row);
    upload(inputs_.block_copies, in.block_copies);
    shape_ = {.tokens = static_cast<int>(in.token_ids.size()),
              .sequences = static_cast<int>(in.context_lengths.size()),
              .outputs = static_cast<int>(in.output_rows.size()),
              .block_copies = static_cast<int>(in.block_copies.size() / 2)};
    stream_->run(*program_, shape_);
    std::vector<Output> outputs;
    for (size_t i = 0; i < recording_.outputs.size(); ++i) outputs.push_back(download(i));
    return outputs;
  }

 private:
  void allocate_inputs() {
    const auto allocate = [&](std::vector<int32_t> StepInputs::*field) {
      const int count = largest(case_.steps, field);
      buffers_.push_back(device_.allocate(std::max(count, 1) * sizeof(int32_t)));
      return buffers_.back().get();
    };
    inputs_ = {.token_ids = allocate(&StepInputs::token_ids),
               .positions = allocate(&StepInputs::positions),
               .slots = allocate(&StepInputs::slots),
               .query_starts = allocate(&StepInputs::query_starts),
               .context_lengths = allocate(&StepInputs::context_lengths),
               .block_tables = allocate(&StepInputs::block_tables),
               .output_rows = allocate(&StepInputs::output_rows),
               .adapter_of_row = allocate(&StepInputs::adapter_of_row),
               .block_copies = allocate(&StepInputs::block_copies)};
    const StepInputs& first = case_.steps.front();
    limits_ = {.tokens = largest(case_.steps, &StepInputs::token_ids),
               .sequences = largest(case_.steps, &StepInputs::context_lengths),
               .outputs = largest(case_.steps, &StepInputs::output_rows),
               .blocks_per_sequence =
                   static_cast<int>(first.block_tables.size() / first.context_lengths.size()),
               .block_copies = largest(case_.steps, &StepInputs::block_copies) / 2};
  }

  void upload(backend::Buffer* to, const std::vector<int32_t>& values) {
    if (!values.empty()) stream_->upload(*to, 0, std::as_bytes(std::span(values)));
  }

  Output download(size_t index) {
    const backend::Value value = recording_.outputs[index];
    const backend::Storage& storage = recording_.storages[value.storage];
    const int rows = storage.rows == backend::Rows::tokens ? shape_.tokens : shape_.outputs;
    Output output{storage.dtype, rows, storage.columns, {}};
    const int64_t count = static_cast<int64_t>(rows) * storage.columns;
    std::vector<std::byte> bytes(row_bytes(storage.dtype, count));
    stream_->download(program_->output(static_cast<int>(index)), 0, bytes);
    stream_->synchronize();
    std::vector<float> values(count);
    dequantize_row(storage.dtype, bytes, values);
    output.values.assign(values.begin(), values.end());
    return output;
  }

  const Case& case_;
  Device& device_;
  std::unique_ptr<backend::Stream> stream_;
  TestWeightPointer table_;
  std::unique_ptr<backend::KvCache> cache_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::StepBuffers inputs_;
  backend::StepLimits limits_;
  std::unique_ptr<Kit> kit_;
  backend::Recording recording_;
  std::unique_ptr<backend::Program> program_;
  backend::StepShape shape_;
};

std::vector<std::vector<Output>> run_case(const Case& test_case, Device& device) {
  CaseRun run(test_case, device);
  std::vector<std::vector<Output>> results;
  for (size_t i = 0; i < test_case.steps.size(); ++i) {
    results.push_back(run.step(static_cast<int>(i)));
  }
  return results;
}

namespace {

// Errors of one output over all steps of a case, by its size over all steps: a single value of a
// short step may be the small difference of large products,
// and says nothing of its kernel's precision.
class OutputErrors {
 public:
  void add(const Output& expected, const Output& got) {
    for (size_t i = 0; i < expected.values.size(); ++i) {
      const double error = std::abs(got.values[i] - expected.values[i]);
      finite_ = finite_ && std::isfinite(got.values[i]);
      square_ += expected.values[i] * expected.values[i];
      error_square_ += error * error;
      worst_ = std::max(worst_, error);
    }
    count_ += static_cast<double>(expected.values.size());
  }

  // Both infinite where a value is not finite. An output of zeros is judged by absolute errors.
  Tolerance relative() const {
    if (!finite_) return {INFINITY, INFINITY};
    const double count = std::max(1.0, count_);
    const double size = square_ > 0 ? std::sqrt(square_ / count) : 1.0;
    return {std::sqrt(error_square_ / count) / size, worst_ / size};
  }

 private:
  bool finite_ = true;
  double square_ = 0, error_square_ = 0, worst_ = 0, count_ = 0;
};

void judge(const Case& test_case, const std::string& device, const std::string& what,
           const Tolerance& error, const Tolerance& declared) {
  const std::string kind = test_case.name.substr(0, test_case.name.find(' '));
  const Tolerance tolerance = tolerance_on(device, test_case.name, declared);
  summary().add_error(device + " " + kind, error.rms, error.worst);
  EXPECT_TRUE(error.rms <= tolerance.rms && error.worst <= tolerance.worst)
      << test_case.name << " on " << device << ", " << what << ": rms error " << error.rms
      << " (allowed " << tolerance.rms << "), worst " << error.worst << " (allowed "
      << tolerance.worst << ")";
}

using Results = std::vector<std::vector<Output>>;

// What the reference computes of one test's cases, which are the same on every device: the devices
// of a test follow each other, so that it is computed for the first of them alone.
class Expectations {
 public:
  const Results& of(const Case& test_case) {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string name = test->name();
    if (test != test_) next_ = 0;
    test_ = test;
    const std::string owner =
        std::string(test->test_suite_name()) + "." + name.substr(0, name.find('/'));
    const size_t index = next_++;
    if (index < kept_.size()) {
      const Kept& kept = kept_[index];
      if (kept.owner == owner && kept.name == test_case.name && kept.inputs == test_case.inputs) {
        return kept.results;
      }
    }
    kept_.resize(index);
    kept_.push_back({owner, test_case.name, test_case.inputs,
                     run_case(test_case, *backend::open_device("reference"))});
    return kept_.back().results;
  }

 private:
  struct Kept {
    std::string owner;  // the test without its device
    std::string name;
    std::vector<float> inputs;
    Results results;
  };
  const testing::TestInfo* test_ = nullptr;
  size_t next_ = 0;  // of the cases of test_
  std::deque<Kept> kept_;
};

// Output `index` of all steps.
void judge_codes(const Case& test_case, const std::vector<std::vector<Output>>& expected,
                 const std::vector<std::vector<Output>>& got, size_t index,
                 const std::string& device) {
  double codes = 0, differing = 0, largest = 0;
  for (size_t s = 0; s < expected.size(); ++s) {
    const std::vector<double>& wanted = expected[s][index].values;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double difference = std::abs(wanted[i] - got[s][index].values[i]);
      largest = std::max(largest, difference);
      differing += difference != 0;
    }
    codes += static_cast<double>(wanted.size());
  }
  EXPECT_LE(largest, rounded_codes.largest) << test_case.name << " on " << device;
  EXPECT_LE(differing, rounded_codes.differing_share * codes)
      << test_case.name << " on " << device << ", of " << codes << " codes";
}

void compare(const Case& test_case, const std::vector<std::vector<Output>>& expected,
             const std::vector<std::vector<Output>>& got, const std::string& device) {
  const size_t outputs = expected.empty() ? 0 : expected.front().size();
  for (size_t i = 0; i < outputs; ++i) {
    OutputErrors errors;
    for (size_t s = 0; s < expected.size(); ++s) {
      ASSERT_EQ(expected[s][i].rows, got[s][i].rows);
      ASSERT_EQ(expected[s][i].columns, got[s][i].columns);
      errors.add(expected[s][i], got[s][i]);
    }
    if (expected.front()[i].dtype == DType::i8) {
      judge_codes(test_case, expected, got, i, device);
      continue;
    }
    const bool is_integer = expected.front()[i].dtype == DType::i32;
    const Tolerance tolerance =
        is_integer ? exact : test_case.tolerances.at(i % test_case.tolerances.size());
    const std::string what = fmt::format("output {} of {} columns", i, expected.front()[i].columns);
    judge(test_case, device, what, errors.relative(), tolerance);
  }
}

}  // namespace

std::unique_ptr<Device> open_for_test(const DeviceChoice& choice, bool threads_in_turns) {
  // Two threads, so that the split of the work is tested as well.
  return backend::open_device(choice.name, {.threads = 2,
                                            .isa = choice.isa,
                                            .threads_spin = false,
                                            .threads_in_turns = threads_in_turns,
                                            .allow_emulation = choice.emulated});
}

void expect_conforms(const Case& test_case, const DeviceChoice& choice) {
  static Expectations expectations;
  const Results& expected = expectations.of(test_case);
  Results got;
  try {
    const auto device = open_for_test(choice);
    got = run_case(test_case, *device);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    const std::string line =
        fmt::format("{} on {}: {}", test_case.name, test_name(choice), error.message());
    const std::string wrong = contradiction(test_name(choice), test_case.name, true);
    ASSERT_EQ(wrong, "") << line;
    summary().add_missing(line);
    GTEST_SKIP() << line;
  }
  EXPECT_EQ(contradiction(test_name(choice), test_case.name, false), "")
      << test_case.name << " on " << test_name(choice);
  compare(test_case, expected, got, test_name(choice));
}

}  // namespace ridge::conformance
