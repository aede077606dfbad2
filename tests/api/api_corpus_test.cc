// The fuzzer's seeds, and simple damage to them, in every build.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

namespace ridge::api::api_corpus_test {
namespace {

// Aborts where a promise of the fuzzer is broken.
void exercise(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

TEST(ApiCorpus, DamagedRequestsAreRefusedOrRead) {
  int seeds = 0;
  std::mt19937 random(1);
  const auto folder = std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/api/corpus/api_request";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string seed{std::istreambuf_iterator<char>(file), {}};
    ++seeds;
    exercise(seed);
    for (std::size_t cut = 0; cut < seed.size(); ++cut) exercise(seed.substr(0, cut));
    for (int i = 0; i < 2000; ++i) {
      std::string damaged = seed;
      for (int j = 0; j < 3; ++j) {
        const std::size_t at = random() % damaged.size();
        damaged[at] = j % 2 ? seed[random() % seed.size()] : static_cast<char>(random());
      }
      exercise(damaged);
    }
  }
  EXPECT_GE(seeds, 2);
}

}  // namespace
}  // namespace ridge::api::api_corpus_test
