// Every file that a fuzzer started from or once failed on, through the same function.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/gguf_exercise.h"
#include "fuzz/model_folder_exercise.h"
#include "fuzz/safetensors_exercise.h"

namespace ridge::format::corpus_test {

namespace {

void expect_corpus(const std::string& fuzzer, bool (*exercise)(std::span<const std::byte>)) {
  int accepted = 0;
  int refused = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(RIDGE_SOURCE_DIR "/tests/fuzz/corpus/" + fuzzer)) {
    SCOPED_TRACE(entry.path().filename().string());
    std::ifstream in(entry.path(), std::ios::binary);
    const std::vector<char> content{std::istreambuf_iterator<char>(in), {}};
    const bool whole = exercise(std::as_bytes(std::span(content)));
    (whole ? accepted : refused) += 1;
    // The seeds say by their names what they are; inputs found by fuzzing have other names.
    const std::string name = entry.path().filename().string();
    if (name.starts_with("good-")) {
      EXPECT_TRUE(whole);
    } else if (name.starts_with("bad-")) {
      EXPECT_FALSE(whole);
    }
  }
  EXPECT_GE(accepted, 8);
  EXPECT_GE(refused, 10);
}

}  // namespace

TEST(GgufCorpus, EveryFileEndsWellOrInAnError) { expect_corpus("gguf", exercise_gguf); }

TEST(SafetensorsCorpus, EveryFileEndsWellOrInAnError) {
  expect_corpus("safetensors", exercise_safetensors);
}

TEST(ModelFolderCorpus, EveryFolderEndsWellOrInAnError) {
  expect_corpus("model_folder", exercise_model_folder);
}

}  // namespace ridge::format::corpus_test
