#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "backend/ascend/twin/launch.h"
#include "base/sanitizers.h"
#include "tensor/float_formats.h"

// What tests of kernels share: device memory with values in it, and launches on every device and
// schedule that a kernel must pass.
namespace ridge::backend::ascend {

enum class ActivationType { f16, bf16, f32 };
inline constexpr ActivationType activation_types[] = {ActivationType::f16, ActivationType::bf16,
                                                      ActivationType::f32};
inline std::string suffix(ActivationType type) {
  return type == ActivationType::f16 ? "f16" : type == ActivationType::bf16 ? "bf16" : "f32";
}
inline uint32_t element_bytes(ActivationType type) { return type == ActivationType::f32 ? 4 : 2; }
inline float rounded(ActivationType type, float value) {
  return type == ActivationType::f16    ? f16_to_f32(f32_to_f16(value))
         : type == ActivationType::bf16 ? bf16_to_f32(f32_to_bf16(value))
                                        : value;
}
// How far a kernel that computes in float32 may lie from the exact result, relative to the largest
// value of a row: half a unit in the last place of its type, and float32's own errors.
inline double tolerance(ActivationType type) {
  const double last_place = type == ActivationType::f16    ? 0x1p-11
                            : type == ActivationType::bf16 ? 0x1p-8
                                                           : 0;
  return last_place + 2e-6;
}

inline std::vector<float> random_floats(std::mt19937& random, size_t count, float size = 1.0f) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}
inline std::vector<float> rounded(ActivationType type, std::vector<float> values) {
  for (float& value : values) value = rounded(type, value);
  return values;
}

// Device memory of one test.
class DeviceMemory {
 public:
  twin::GlobalMemory& memory() { return memory_; }

  template <typename T>
  uint64_t store(const std::vector<T>& values) {
    const uint64_t address = memory_.allocate(values.size() * sizeof(T));
    memory_.write(address, std::as_bytes(std::span(values)));
    return address;
  }
  uint64_t store(ActivationType type, const std::vector<float>& values) {
    if (type == ActivationType::f32) return store(values);
    std::vector<uint16_t> halves;
    for (const float value : values) {
      halves.push_back(type == ActivationType::f16 ? f32_to_f16(value) : f32_to_bf16(value));
    }
    return store(halves);
  }
  template <typename Tiling>
  uint64_t store_tiling(const Tiling& tiling) {
    return store(std::vector<Tiling>{tiling});
  }
  uint64_t reserve(size_t bytes) { return memory_.allocate(bytes); }

  template <typename T>
  std::vector<T> load(uint64_t address, size_t count) {
    std::vector<T> values(count);
    memory_.read(address, std::as_writable_bytes(std::span(values)));
    return values;
  }
  std::vector<float> load(ActivationType type, uint64_t address, size_t count) {
    if (type == ActivationType::f32) return load<float>(address, count);
    std::vector<float> values;
    for (const uint16_t bits : load<uint16_t>(address, count)) {
      values.push_back(type == ActivationType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits));
    }
    return values;
  }

 private:
  twin::GlobalMemory memory_{uint64_t{8} << 30};
};

// Where and how each kernel runs in tests.
struct Setting {
  std::string soc;
  twin::Schedule schedule;
  uint64_t seed;
};
// RIDGE_TWIN_SEEDS says how many delayed schedules each kernel meets; a thorough run takes 100.
inline std::vector<Setting> settings() {
  const char* wanted = std::getenv("RIDGE_TWIN_SEEDS");
  const uint64_t seeds = wanted ? std::strtoull(wanted, nullptr, 10) : 3;
  std::vector<Setting> all;
  if (is_sanitized) {
    return {{"910B2", twin::Schedule::plain, 0}, {"910B4", twin::Schedule::delayed, 1}};
  }
  for (const char* soc : {"910B2", "910B4"}) {
    all.push_back({soc, twin::Schedule::plain, 0});
    for (uint64_t seed = 1; seed <= seeds; ++seed) all.push_back({soc, twin::Schedule::delayed, seed});
  }
  return all;
}
inline std::string test_name(const Setting& setting) {
  return setting.soc + (setting.schedule == twin::Schedule::plain
                            ? "_plain"
                            : "_delayed_" + std::to_string(setting.seed));
}
inline twin::LaunchOptions options_of(const Setting& setting, DeviceMemory& device) {
  twin::LaunchOptions options;
  options.soc = &find_soc(setting.soc);
  options.memory = &device.memory();
  options.schedule = setting.schedule;
  options.seed = setting.seed;
  return options;
}
inline void PrintTo(const Setting& setting, std::ostream* out) { *out << test_name(setting); }

class KernelTest : public testing::TestWithParam<Setting> {
 protected:
  const Soc& soc() const { return find_soc(GetParam().soc); }

  // Fails the test with every fault that the twin finds.
  template <typename... Arguments>
  twin::LaunchReport launch(DeviceMemory& device, const std::string& name, uint32_t block_dim,
                            const Arguments&... arguments) {
    const twin::KernelImage* kernel = twin::find_kernel(name);
    if (!kernel) throw std::runtime_error("there is no kernel " + name);
    const twin::LaunchReport report =
        twin::launch(*kernel, block_dim, twin::pack_arguments(arguments...),
                     options_of(GetParam(), device));
    EXPECT_TRUE(report.ok()) << name << "\n" << report.text();
    // For launched_kernels_test.cc.
    if (const char* file = std::getenv("RIDGE_TWIN_LAUNCHED")) {
      std::ofstream(file, std::ios::app) << name << '\n';
    }
    return report;
  }

  std::mt19937 random{7};
};

#define INSTANTIATE_FOR_SETTINGS(suite)                                      \
  INSTANTIATE_TEST_SUITE_P(Twin, suite, testing::ValuesIn(settings()),       \
                           [](const auto& info) { return test_name(info.param); })

// Every value within `tolerance` of the largest of its row, or a step of half's smallest numbers.
inline void expect_close(const std::vector<float>& got, const std::vector<float>& wanted,
                         size_t columns, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t first = 0; first < got.size(); first += columns) {
    float largest = 0;
    for (size_t i = first; i < first + columns; ++i) {
      largest = std::max(largest, std::fabs(wanted[i]));
    }
    for (size_t i = first; i < first + columns; ++i) {
      ASSERT_NEAR(got[i], wanted[i], tolerance * largest + 0x1p-24)
          << what << ", row " << first / columns << ", column " << i - first;
    }
  }
}

}  // namespace ridge::backend::ascend
