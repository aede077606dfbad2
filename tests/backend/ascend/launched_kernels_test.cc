#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "backend/ascend/twin/launch.h"
#include "base/sanitizers.h"
#include "base/temporary_folder.h"

namespace ridge::backend::ascend::launched_kernels_test {

// A kernel that nothing here launches was held to nothing. Tests are processes of their own where CTest runs them,
// so this program runs all of one setting once more, and they write down what they launch.
TEST(EveryKernel, IsLaunchedByATestOfKernels) {
  if (is_sanitized) GTEST_SKIP() << "what is launched does not hang on sanitizers, and takes long";
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "launched", log = folder / "log";
  const std::string command = "RIDGE_TWIN_LAUNCHED='" + file.string() + "' '" +
                              std::filesystem::read_symlink("/proc/self/exe").string() +
                              "' --gtest_filter='Twin/*/910B4_plain' > '" + log.string() + "' 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << std::ifstream(log).rdbuf();
  std::set<std::string> launched;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) launched.insert(line);
  for (const twin::KernelImage& kernel : twin::kernels()) {
    EXPECT_TRUE(launched.contains(kernel.name)) << kernel.name << " has no test";
  }
}

}  // namespace ridge::backend::ascend::launched_kernels_test
