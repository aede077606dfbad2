#include "platform/model_reference.h"

#include "base/temporary_folder.h"
#include "platform/quantization.h"
#include "platform/throws.h"

namespace ridge::platform::model_reference_test {
namespace {

TEST(ModelReference, CatalogNamesAreInLowerCase) {
  const auto reference = ModelReference::parse("DeepSeek-R1:1.5B-Q8_0");
  EXPECT_EQ(reference.kind, ReferenceKind::catalog);
  EXPECT_EQ(reference.name, "deepseek-r1:1.5b-q8_0");
  EXPECT_EQ(reference.to_string(), "deepseek-r1:1.5b-q8_0");
}

TEST(ModelReference, HuggingFaceNamesKeepTheirCase) {
  const auto reference = ModelReference::parse("hf:Org-1/Model.v2-GGUF:q4_k_m");
  EXPECT_EQ(reference.kind, ReferenceKind::hugging_face);
  EXPECT_EQ(reference.repository, "Org-1/Model.v2-GGUF");
  EXPECT_EQ(reference.quantization, "Q4_K_M");
  EXPECT_EQ(reference.to_string(), "hf:Org-1/Model.v2-GGUF:Q4_K_M");
  EXPECT_EQ(ModelReference::parse("hf:a/b").quantization, "");
}

TEST(ModelReference, PathsAreKnownByTheirForm) {
  for (const char* path : {"/models/a", "./a", "../a", "a.gguf", "models/a.gguf", "~/a"}) {
    EXPECT_EQ(ModelReference::parse(path).kind, ReferenceKind::path) << path;
  }
}

TEST(ModelReference, AFileThatIsThereIsAPath) {
  const TemporaryFolder temporary;
  const auto file = temporary.write("smollm2", "");
  const auto before = std::filesystem::current_path();
  EXPECT_EQ(ModelReference::parse("smollm2").kind, ReferenceKind::catalog);
  std::filesystem::current_path(temporary.path());
  EXPECT_EQ(ModelReference::parse("smollm2").kind, ReferenceKind::path);
  std::filesystem::current_path(before);
}

TEST(ModelReference, RefusesWhatCouldLeadElsewhere) {
  const std::string wrong[] = {"",
                               "a:b:c",
                               "a..b",
                               "a/b",
                               "-a",
                               ".hidden",
                               "a b",
                               "a\nb",
                               "a:",
                               ":a",
                               "a%2f",
                               std::string("a\0b", 3),
                               std::string(200, 'a'),
                               "hf:",
                               "hf:a",
                               "hf:/b",
                               "hf:a/",
                               "hf:../b",
                               "hf:a/..",
                               "hf:a/b/c",
                               "hf:a/b:",
                               "hf:a/b:../x",
                               "hf:a/b?x=1",
                               "hf:a/b#x",
                               "hf:a@b/c",
                               "hf:a/b:Q4 K"};
  for (const std::string& text : wrong) {
    EXPECT_ERROR(ModelReference::parse(text), invalid_argument, "");
  }
}

TEST(Quantization, IsTheEndOfTheName) {
  EXPECT_TRUE(has_quantization("M-Q4_K_M.gguf", "Q4_K_M"));
  EXPECT_TRUE(has_quantization("m.q4_k_m.gguf", "Q4_K_M"));
  EXPECT_TRUE(has_quantization("M-Q8_0-00001-of-00002.gguf", "Q8_0"));
  EXPECT_TRUE(has_quantization("f16.GGUF", "F16"));
  EXPECT_FALSE(has_quantization("M-Q4_K_M.gguf", "K_M.gguf"));
  EXPECT_FALSE(has_quantization("M-Q4_K_M.gguf", "4_K_M"));
  EXPECT_FALSE(has_quantization("M-BF16.gguf", "F16"));
  EXPECT_FALSE(has_quantization("M-Q4_K_M-draft.gguf", "Q4_K_M"));
  EXPECT_FALSE(has_quantization("M-IQ4_XS.gguf", "Q4_XS"));
  EXPECT_EQ(quantization_of("SmolLM2-135M-Instruct.Q4_1.gguf"), "Q4_1");
  EXPECT_EQ(quantization_of("M-q3_k_l.gguf"), "Q3_K_L");
  EXPECT_EQ(quantization_of("model.gguf"), "");
}

TEST(PartName, OnlyTheFullFormIsAPart) {
  EXPECT_EQ(part_name("M-00002-of-00005.gguf").part, 2);
  EXPECT_EQ(part_name("M-00002-of-00005.gguf").parts, 5);
  EXPECT_EQ(part_name("M-00002-of-00005.gguf").stem, "M");
  for (const char* name : {"M-00006-of-00005.gguf", "M-00000-of-00005.gguf", "M-0001-of-00005.gguf",
                           "M-+0001-of-00005.gguf", "-00001-of-00002.gguf", "M.gguf"}) {
    EXPECT_EQ(part_name(name).parts, 1) << name;
  }
}

}  // namespace
}  // namespace ridge::platform::model_reference_test
