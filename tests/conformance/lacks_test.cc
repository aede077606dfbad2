#include "conformance/lacks.h"

#include <gtest/gtest.h>

namespace ridge::conformance::lacks_test {

namespace {

constexpr Lack lacks[] = {{"cpu_*", "route *"}, {"cpu_avx2", "linear-* rows ?/?"}};

TEST(Lacks, AreNoContradictionWhereTheyAreDeclared) {
  EXPECT_EQ(contradiction("cpu_scalar", "route 1 of 12", true, lacks), "");
  EXPECT_EQ(contradiction("cpu_avx2", "linear-Q4_K rows 1/2", true, lacks), "");
  EXPECT_EQ(contradiction("cpu_avx2", "linear-Q4_K 3 x 64", false, lacks), "");
}

TEST(Lacks, MustBeDeclaredForTheVeryCaseAndDevice) {
  const std::string text = "lacks.h does not say that the device lacks this";
  EXPECT_EQ(contradiction("cpu_avx2", "rms_norm of 7", true, lacks), text);
  EXPECT_EQ(contradiction("cpu_avx512", "linear-Q4_K rows 1/2", true, lacks), text);
  EXPECT_EQ(contradiction("cpu_avx2", "linear-Q4_K of rows apart", true, lacks), text);
  EXPECT_EQ(contradiction("ascend", "route 1 of 12", true, lacks), text);
}

TEST(Lacks, MustGoOnceTheCaseWorks) {
  EXPECT_EQ(contradiction("cpu_avx2", "route 1 of 12", false, lacks),
            "it works, though lacks.h says that cpu_* lacks 'route *'");
}

}  // namespace

}  // namespace ridge::conformance::lacks_test
