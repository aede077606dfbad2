// The fuzzer's seeds, and simple damage to them, in every build.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "base/sanitizers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

namespace ridge::text::answer_parts_corpus_test {
namespace {

// Aborts where a promise of the fuzzer is broken.
void exercise(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

TEST(AnswerPartsCorpus, PartsDoNotDependOnTheCuts) {
  int seeds = 0;
  std::mt19937 random(1);
  const auto folder = std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/text/corpus/answer_parts";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path().filename());
    std::ifstream file(entry.path(), std::ios::binary);
    std::string seed{std::istreambuf_iterator<char>(file), {}};
    ++seeds;
    // Under sanitizers every cut of each seed, but each in one of the twelve ways, and a part of the
    // damage.
    constexpr std::size_t part = is_sanitized ? 12 : 1;
    for (char how = '0'; how <= ';'; ++how) {
      seed[0] = how;
      const std::size_t first = static_cast<std::size_t>(how - '0') % part;
      for (std::size_t size = first; size <= seed.size(); size += part) {
        exercise(seed.substr(0, size));
      }
      for (std::size_t i = 0; i < 300 / part; ++i) {
        std::string damaged = seed;
        damaged[1] = static_cast<char>(random());
        const std::size_t from = 2 + random() % (seed.size() - 2);
        const std::size_t to = 2 + random() % (seed.size() - 2);
        const std::size_t count = random() % 20;
        if (i % 2 == 0) {
          damaged.insert(to, seed.substr(from, count));
        } else {
          damaged.erase(from, count);
        }
        exercise(damaged);
      }
    }
  }
  EXPECT_GE(seeds, 14);
}

}  // namespace
}  // namespace ridge::text::answer_parts_corpus_test
