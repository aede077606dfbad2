#include "base/machine_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ridge::machine_memory_test {
namespace {

class AvailableMemory : public testing::Test {
 protected:
  AvailableMemory() : root_(testing::TempDir() + "ridge_memory_" + std::to_string(getpid())) {
    std::filesystem::remove_all(root_);
    write("/proc/meminfo", "MemTotal:       24000000 kB\nMemAvailable:   8000000 kB\n");
  }
  ~AvailableMemory() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(AvailableMemory, IsTheSystemsWithoutACgroup) {
  EXPECT_EQ(available_memory_bytes(root_), 8000000ull * 1024);
}

TEST_F(AvailableMemory, IsLoweredByAVersion2CgroupAboveTheProcess) {
  write("/proc/self/cgroup", "0::/user/app\n");
  write("/sys/fs/cgroup/user/app/memory.max", "max\n");
  write("/sys/fs/cgroup/user/app/memory.current", "1000\n");
  write("/sys/fs/cgroup/user/memory.max", "1000000000\n");
  write("/sys/fs/cgroup/user/memory.current", "700000000\n");
  write("/sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 200000000\n");
  EXPECT_EQ(available_memory_bytes(root_), 500000000u);
}

TEST_F(AvailableMemory, IsLoweredByAVersion1Cgroup) {
  write("/proc/self/cgroup", "5:memory:/docker/x\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000000\n");
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "200000000\n");
  EXPECT_EQ(available_memory_bytes(root_), 400000000u);
}

TEST_F(AvailableMemory, IsNothingInAFullCgroup) {
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/memory.max", "1000\n");
  write("/sys/fs/cgroup/memory.current", "5000\n");
  EXPECT_EQ(available_memory_bytes(root_), 0u);
}

TEST_F(AvailableMemory, OfAllIsTheMachinesOrTheLeastLimit) {
  EXPECT_EQ(total_memory_bytes(root_), 24000000ull * 1024);
  write("/proc/self/cgroup", "0::/user/app\n");
  write("/sys/fs/cgroup/user/app/memory.max", "max\n");
  write("/sys/fs/cgroup/user/memory.max", "1000000000\n");
  EXPECT_EQ(total_memory_bytes(root_), 1000000000u);
  write("/proc/self/cgroup", "5:memory:/docker/x\n");
  write("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "600000000\n");
  EXPECT_EQ(total_memory_bytes(root_), 600000000u);
}

TEST(AvailableMemoryHere, IsPlausible) {
  EXPECT_GT(available_memory_bytes(), 1u << 20);
  EXPECT_LE(available_memory_bytes(), total_memory_bytes());
}

}  // namespace
}  // namespace ridge::machine_memory_test
