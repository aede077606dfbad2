#include "platform/hub_listing.h"

#include "platform/throws.h"

namespace ridge::platform::hub_listing_test {
namespace {

std::vector<HubFile> files(std::initializer_list<const char*> paths) {
  std::vector<HubFile> result;
  for (const char* path : paths) result.push_back({.path = path});
  return result;
}

TEST(ChooseFiles, TakesTheFileOfTheQuantization) {
  const auto listing = files(
      {"README.md", "M-Q8_0.gguf", "M-UD-Q4_K_M.gguf", "M-q4_k_m.gguf", "mmproj-Q4_K_M.gguf"});
  EXPECT_EQ(choose_files(listing, "Q4_K_M", "a/b").files[0].path, "M-q4_k_m.gguf");
  EXPECT_EQ(choose_files(listing, "", "a/b").quantization, "Q4_K_M");
  EXPECT_ERROR(choose_files(listing, "Q2_K", "a/b"), not_found,
               "a/b has no Q2_K; it has Q4_K_M, Q8_0");
}

TEST(ChooseFiles, TakesTheOnlyFileWhateverItsName) {
  EXPECT_EQ(choose_files(files({"model.gguf", "x.bin"}), "", "a/b").files[0].path, "model.gguf");
  EXPECT_ERROR(choose_files(files({"x.bin"}), "", "a/b"), not_found, "no GGUF");
  EXPECT_ERROR(choose_files(files({"x.gguf", "y.gguf"}), "", "a/b"), not_found, "several");
}

TEST(ChooseFiles, PutsPartsInOrderAndMissesNone) {
  const auto choice = choose_files(
      files({"Q8_0/M-Q8_0-00002-of-00002.gguf", "Q8_0/M-Q8_0-00001-of-00002.gguf", "M-Q2_K.gguf"}),
      "Q8_0", "a/b");
  ASSERT_EQ(choice.files.size(), 2u);
  EXPECT_EQ(choice.files[0].path, "Q8_0/M-Q8_0-00001-of-00002.gguf");
  EXPECT_ERROR(choose_files(files({"M-Q8_0-00002-of-00002.gguf"}), "Q8_0", "a/b"), invalid_file,
               "not all 2 parts");
  EXPECT_ERROR(choose_files(files({"M-Q8_0-00001-of-90000.gguf"}), "Q8_0", "a/b"), invalid_file,
               "parts");
}

TEST(ChooseFiles, RefusesPathsThatLeadOut) {
  for (const char* path : {"../M-Q8_0.gguf", "/etc/M-Q8_0.gguf", "a//M-Q8_0.gguf",
                           "a/../M-Q8_0.gguf", "a\\M-Q8_0.gguf", "a\n/M-Q8_0.gguf"}) {
    EXPECT_ERROR(choose_files(files({path}), "Q8_0", "a/b"), invalid_file, "refused");
  }
}

TEST(Listings, OfHuggingFaceStateCommitSizeAndDigest) {
  std::string commit;
  const auto listing = read_hugging_face_listing(
      R"({"sha":"abc","siblings":[{"rfilename":"README.md","size":3},
          {"rfilename":"M.gguf","lfs":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
           "size":7}},{"rfilename":"N.gguf","lfs":{"sha256":"../../x","size":7}}]})",
      commit);
  EXPECT_EQ(commit, "abc");
  ASSERT_EQ(listing.size(), 3u);
  EXPECT_FALSE(listing[0].digest);
  EXPECT_EQ(listing[1].digest, Digest::of(""));
  EXPECT_EQ(listing[1].size_bytes, 7);
  EXPECT_FALSE(listing[2].digest) << "what is no digest counts as not stated";
  for (const char* wrong :
       {"", "[]", "{}", "{\"siblings\":[1]}", "{\"siblings\":[{\"rfilename\":1}]}"}) {
    EXPECT_ERROR(read_hugging_face_listing(wrong, commit), invalid_file, "not understood");
  }
}

TEST(Listings, OfModelScopeLeaveFoldersOut) {
  const auto listing = read_modelscope_listing(
      R"({"Code":200,"Data":{"Files":[{"Path":"Q8_0","Type":"tree"},{"Path":"M.gguf","Type":"blob","Size":7,
          "Sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}})");
  ASSERT_EQ(listing.size(), 1u);
  EXPECT_EQ(listing[0].digest, Digest::of(""));
  EXPECT_ERROR(read_modelscope_listing(R"({"Code":404,"Message":"no"})"), not_found, "no");
  EXPECT_ERROR(read_modelscope_listing(R"({"Code":200})"), invalid_file, "not understood");
}

}  // namespace
}  // namespace ridge::platform::hub_listing_test
