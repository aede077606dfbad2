#include "planner/device_table.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "base/temporary_folder.h"
#include "planner/throws.h"

namespace ridge::planner::device_table_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* own = R"(
[sources]
mine = "my data sheet"
[[device]]
name = "X1"
f16_tflops = { value = 100, source = "mine", how = "half of 200" }
memory_gb = { value = 32, source = "mine" }
memory_gbps = { value = 1000, source = "elsewhere" }
)";

TEST(DeviceTable, HasWhatTheIssueAsksFor) {
  const DeviceTable table = DeviceTable::built_in();
  for (const char* name : {"910B1", "910B2", "910B3", "910B4", "910C", "910C-die", "H20", "H100",
                           "H800", "H200", "MI300X", "A100"}) {
    EXPECT_EQ(table.get(name).name, name);
  }
  EXPECT_EQ(table.get("h100").name, "H100");
}

TEST(DeviceTable, EveryFigureHasASource) {
  const DeviceTable table = DeviceTable::built_in();
  for (const Device& device : table.devices()) {
    for (const Figure* figure : {&device.f16_tflops, &device.f8_tflops, &device.i8_tops,
                                 &device.memory_gb, &device.memory_gbps, &device.link_gbps,
                                 &device.link_us, &device.network_gbps, &device.network_us}) {
      if (figure->value == 0) continue;
      EXPECT_GT(figure->source.size(), 12u) << device.name << ": " << figure->source;
    }
  }
}

// Cube cores x 16^3 multiply-adds a cycle x 2 x GHz (CANN's platform_config).
TEST(DeviceTable, AscendPeaksAreThoseOfTheirCubes) {
  const DeviceTable table = DeviceTable::built_in();
  const auto expect_cubes = [&](const char* name, double cores, double ghz) {
    EXPECT_NEAR(table.get(name).f16_tflops.value, cores * 4096 * 2 * ghz / 1e3, 0.06) << name;
    EXPECT_NEAR(table.get(name).i8_tops.value, cores * 8192 * 2 * ghz / 1e3, 0.12) << name;
  };
  expect_cubes("910B1", 24, 1.85);
  expect_cubes("910B2", 24, 1.8);
  expect_cubes("910B3", 20, 1.8);
  expect_cubes("910B4", 20, 1.5);
  expect_cubes("910C", 48, 1.8);  // data/devices.toml says why not 1.85
  expect_cubes("910C-die", 24, 1.8);
}

TEST(DeviceTable, ADieIsHalfOfItsPackage) {
  const DeviceTable table = DeviceTable::built_in();
  const Rank package(table.get("910C"));
  const Rank die(table.get("910C-die"));
  EXPECT_DOUBLE_EQ(package.memory_bytes, die.memory_bytes);
  EXPECT_DOUBLE_EQ(package.bytes_per_second, die.bytes_per_second);
  EXPECT_DOUBLE_EQ(package.link_bytes_per_second, die.link_bytes_per_second);
  EXPECT_EQ(package.link_ranks, die.link_ranks);
}

TEST(DeviceTable, AnUnknownDeviceIsAnsweredWithThoseThatAreKnown) {
  EXPECT_THAT(thrown([] { DeviceTable::built_in().get("H9000"); }),
              AllOf(HasSubstr("invalid_argument: device 'H9000' is not known"),
                    HasSubstr("910B1, 910B2"), HasSubstr("A100"), HasSubstr("--devices-file")));
}

TEST(DeviceTable, AnOperatorsFileAddsAndReplaces) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.write("devices.toml", std::string(own) + R"(
[[device]]
name = "h20"
f16_tflops = { value = 1, source = "a" }
memory_gb = { value = 1, source = "a" }
memory_gbps = { value = 1, source = "a" }
)");
  DeviceTable table = DeviceTable::built_in();
  const size_t before = table.devices().size();
  table.add_file(path);
  std::filesystem::remove(path);
  EXPECT_EQ(table.devices().size(), before + 1);
  EXPECT_EQ(table.get("H20").f16_tflops.value, 1);
  EXPECT_EQ(table.get("X1").f16_tflops.source, "my data sheet (half of 200)");
  EXPECT_EQ(table.get("X1").memory_gbps.source, "elsewhere");
  EXPECT_THAT(thrown([&] { table.add_file(path); }), HasSubstr("not_found: cannot read"));
}

TEST(DeviceTable, RefusesFilesThatBreakTheForm) {
  const auto refusal = [](const std::string& text) {
    return thrown([&] { DeviceTable::parse(text, "d.toml"); });
  };
  EXPECT_THAT(refusal("a ="), HasSubstr("invalid_file: d.toml:1:"));
  EXPECT_THAT(refusal(""), HasSubstr("holds no [[device]]"));
  EXPECT_THAT(refusal("[[device]]\nname = 'a'"), HasSubstr("device a: 'f16_tflops' is missing"));
  EXPECT_THAT(refusal(std::string(own) + "colour = 'red'"), HasSubstr("unknown key 'colour'"));
  EXPECT_THAT(refusal(std::string(own) + "link_devices = 8"),
              HasSubstr("'link_gbps' is missing, but devices are linked"));
  EXPECT_THAT(refusal(std::string(own) + "i8_tops = { value = -1, source = 'a' }"),
              HasSubstr("'value' must be a number from 0.001 to 1e+06"));
  EXPECT_THAT(refusal(std::string(own) + "i8_tops = { value = 1 }"),
              HasSubstr("'source' is missing"));
  EXPECT_THAT(refusal(std::string(own) + "i8_tops = 1"), HasSubstr("'i8_tops' must be a table"));
  EXPECT_THAT(refusal(own), Not(HasSubstr("invalid")));
}

}  // namespace
}  // namespace ridge::planner::device_table_test
