#include "platform/store.h"

#include <fcntl.h>

#include <cstdlib>
#include <fstream>

#include "base/temporary_folder.h"
#include "platform/manifest_file.h"
#include "platform/resolve.h"
#include "platform/throws.h"

namespace ridge::platform::store_test {
namespace {

class StoreTest : public testing::Test {
 protected:
  // Puts bytes into the blobs as a finished download does.
  StoredFile adopt(const std::string& file_name, const std::string& bytes) {
    const Digest digest = Digest::of(bytes);
    temporary_.write("store/partial/x", bytes);
    store_.adopt(store_.partial(), "x", digest);
    const auto status = store_.blob(digest);
    return {file_name, digest, status->size_bytes, status->mtime_ns, status->inode};
  }
  Manifest put(const std::string& name, std::vector<StoredFile> files) {
    Manifest manifest{.name = name,
                      .title = "T",
                      .quantization = "Q8_0",
                      .source = "test",
                      .files = std::move(files)};
    store_.put(manifest);
    return manifest;
  }
  std::filesystem::path blob(const StoredFile& file) const {
    return store_.root() / "blobs" / ("sha256-" + file.digest.to_string());
  }

  TemporaryFolder temporary_;
  Store store_{temporary_.path() / "store"};
};

TEST_F(StoreTest, AModelIsFoundAfterItWasPut) {
  EXPECT_ERROR(store_.open_checked("tiny:1b"), not_found, "ridge pull tiny:1b");
  const StoredFile file = adopt("a.gguf", "bytes");
  put("tiny:1b", {file});
  EXPECT_EQ(store_.open_checked("tiny:1b"), blob(file));
  ASSERT_EQ(store_.list().size(), 1u);
  EXPECT_EQ(store_.list()[0].name, "tiny:1b");
  EXPECT_EQ(store_.list()[0].size_bytes(), 5);
  // Another process sees the same.
  EXPECT_EQ(Store(store_.root()).open_checked("tiny:1b"), blob(file));
}

TEST_F(StoreTest, ANameNeverLeavesTheStore) {
  for (const char* name : {"", "..", "../x", "a/../../x", ".hidden", "a\nb", "a b", "a%2Fb"}) {
    EXPECT_ERROR(store_.find(name), invalid_argument, "no name");
  }
  EXPECT_EQ(manifest_file_name("hf:Org/Model:Q4_K_M"), "hf%3AOrg%2FModel%3AQ4_K_M.json");
}

TEST_F(StoreTest, ATouchedFileIsRefusedUntilItIsVerified) {
  const StoredFile file = adopt("a.gguf", "bytes");
  put("tiny:1b", {file});
  std::filesystem::last_write_time(
      blob(file), std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_ERROR(store_.open_checked("tiny:1b"), invalid_file, "ridge verify tiny:1b");
  store_.verify("tiny:1b");
  EXPECT_EQ(store_.open_checked("tiny:1b"), blob(file));
}

TEST_F(StoreTest, AFlippedBitIsQuarantined) {
  const StoredFile file = adopt("a.gguf", "bytes");
  put("tiny:1b", {file});
  std::fstream(blob(file), std::ios::in | std::ios::out).write("c", 1);
  EXPECT_ERROR(store_.verify("tiny:1b"), invalid_file, file.digest.to_string());
  EXPECT_FALSE(std::filesystem::exists(blob(file)));
  EXPECT_FALSE(std::filesystem::is_empty(store_.root() / "quarantine"));
  EXPECT_ERROR(store_.open_checked("tiny:1b"), invalid_file, "ridge pull tiny:1b");
}

TEST_F(StoreTest, VerifyCanBeStopped) {
  put("tiny:1b", {adopt("a.gguf", "bytes")});
  EXPECT_ERROR(store_.verify("tiny:1b", [](int64_t, int64_t) { return false; }), cancelled,
               "stopped");
}

TEST_F(StoreTest, RemoveKeepsFilesThatAnotherModelHas) {
  const StoredFile shared = adopt("a.gguf", "shared");
  const StoredFile own = adopt("b.gguf", "own");
  put("one:1b", {shared});
  put("two:1b", {shared, own});
  EXPECT_EQ(store_.remove("two:1b"), 3);
  EXPECT_TRUE(std::filesystem::exists(blob(shared)));
  EXPECT_FALSE(std::filesystem::exists(blob(own)));
  EXPECT_EQ(store_.remove("one:1b"), 6);
  EXPECT_FALSE(std::filesystem::exists(blob(shared)));
  EXPECT_TRUE(std::filesystem::is_empty(store_.root() / "split"));
  EXPECT_ERROR(store_.remove("one:1b"), not_found, "one:1b");
}

TEST_F(StoreTest, PartsStandBesideEachOtherUnderTheirOwnNames) {
  const StoredFile first = adopt("M-00001-of-00002.gguf", "first");
  const StoredFile second = adopt("M-00002-of-00002.gguf", "second");
  put("big:1b", {first, second});
  const auto path = store_.open_checked("big:1b");
  EXPECT_EQ(path.filename(), "M-00001-of-00002.gguf");
  std::string text;
  std::ifstream(path.parent_path() / "M-00002-of-00002.gguf") >> text;
  EXPECT_EQ(text, "second");
}

TEST_F(StoreTest, AModelWithoutItsFilesIsNotNamed) {
  StoredFile file = adopt("a.gguf", "bytes");
  std::filesystem::remove(blob(file));
  EXPECT_ERROR(put("tiny:1b", {file}), unavailable, "a.gguf");
  EXPECT_FALSE(store_.find("tiny:1b"));
}

TEST_F(StoreTest, ADamagedManifestIsNamed) {
  temporary_.write("store/manifests/tiny%3A1b.json", "{\"version\": 1}");
  EXPECT_ERROR(store_.get("tiny:1b"), invalid_file, "tiny%3A1b.json is damaged");
  const StoredFile file = adopt("a.gguf", "bytes");
  Manifest manifest{.name = "tiny:1b", .files = {file}};
  manifest.files[0].file_name = "../../x";
  EXPECT_ERROR(manifest_from_json(manifest_to_json(manifest), "m"), invalid_file, "no file name");
  std::string text = manifest_to_json({.name = "tiny:1b", .files = {file}});
  text.replace(text.find(file.digest.to_string()), 64, "../../../../etc/passwd");
  EXPECT_ERROR(manifest_from_json(text, "m"), invalid_argument, "no SHA-256");
}

TEST_F(StoreTest, AHuggingFaceNameWithoutQuantizationMeansTheOneThatIsHere) {
  const Catalog catalog = Catalog::built_in();
  const StoredFile file = adopt("a.gguf", "bytes");
  EXPECT_ERROR(stored_name(ModelReference::parse("hf:a/b"), catalog, store_), not_found,
               "ridge pull hf:a/b");
  put("hf:a/b:Q8_0", {file});
  EXPECT_EQ(stored_name(ModelReference::parse("hf:a/b"), catalog, store_), "hf:a/b:Q8_0");
  put("hf:a/b:Q4_K_M", {file});
  EXPECT_EQ(stored_name(ModelReference::parse("hf:a/b"), catalog, store_), "hf:a/b:Q4_K_M");
  EXPECT_EQ(stored_name(ModelReference::parse("hf:a/b:q8_0"), catalog, store_), "hf:a/b:Q8_0");
}

TEST_F(StoreTest, ResolveTakesPathsAndCatalogNames) {
  const Catalog catalog = Catalog::built_in();
  const StoredFile file = adopt("a.gguf", "bytes");
  put("smollm2:135m", {file});
  EXPECT_EQ(resolve(ModelReference::parse("smollm2"), catalog, store_).path, blob(file));
  const auto path = temporary_.write("m.gguf", "");
  EXPECT_EQ(resolve(ModelReference::parse(path.string()), catalog, store_).path, path);
  EXPECT_ERROR(resolve(ModelReference::parse("/nowhere.gguf"), catalog, store_), not_found,
               "does not exist");
  EXPECT_ERROR(resolve(ModelReference::parse(temporary_.path().string()), catalog, store_),
               not_found, "is a folder without a config.json");
  temporary_.write("config.json", "{}");
  EXPECT_EQ(resolve(ModelReference::parse(temporary_.path().string()), catalog, store_).path,
            temporary_.path());
  EXPECT_ERROR(resolve(ModelReference::parse("deepseek-r1:7b"), catalog, store_), not_found,
               "ridge pull deepseek-r1:7b");
}

TEST(StoreRoot, FollowsTheEnvironment) {
  const auto root_with = [](const char* ridge, const char* xdg) {
    ridge ? setenv("RIDGE_HOME", ridge, 1) : unsetenv("RIDGE_HOME");
    xdg ? setenv("XDG_DATA_HOME", xdg, 1) : unsetenv("XDG_DATA_HOME");
    return Store::default_root();
  };
  setenv("HOME", "/home/x", 1);
  EXPECT_EQ(root_with("/r", "/x"), "/r");
  EXPECT_EQ(root_with(nullptr, "/x"), "/x/ridge");
  EXPECT_EQ(root_with(nullptr, "relative"), "/home/x/.local/share/ridge");
  EXPECT_EQ(root_with(nullptr, nullptr), "/home/x/.local/share/ridge");
}

}  // namespace
}  // namespace ridge::platform::store_test
