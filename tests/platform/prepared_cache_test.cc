#include "platform/prepared_cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "base/temporary_folder.h"
#include "throws.h"

namespace ridge::platform::prepared_cache_test {
namespace {

using Weights = std::map<std::string, std::vector<std::byte>>;

const PreparedIdentity identity = {Digest::of("a model"), "layout 1"};
constexpr int64_t plenty_bytes = int64_t{1} << 40;

// One of them larger than a chunk of 4 MiB, so that it has two sums.
Weights some_weights() {
  std::mt19937_64 random(7);
  Weights weights;
  for (const auto& [key, bytes] : {std::pair<const char*, size_t>{"a", 1},
                                   {"b", 4096},
                                   {"c", 5000},
                                   {"d", (size_t{4} << 20) + 1234}}) {
    std::vector<std::byte>& to = weights[key];
    while (to.size() < bytes) to.push_back(static_cast<std::byte>(random()));
  }
  return weights;
}

int64_t size_of(const Weights& weights) {
  int64_t sum = 0;
  for (const auto& [key, bytes] : weights) sum += static_cast<int64_t>(bytes.size());
  return sum;
}

class PreparedCacheTest : public testing::Test {
 protected:
  void write(const PreparedIdentity& of = identity) {
    auto writing = cache_.create({of, "a title"}, size_of(weights_));
    ASSERT_TRUE(writing);
    for (const auto& [key, bytes] : weights_) writing->file->add(key, bytes);
    EXPECT_GT(writing->file->finish(), size_of(weights_));
  }
  void expect_weights(const PreparedFile& file) {
    for (const auto& [key, bytes] : weights_) {
      const auto found = file.find(key);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(found.data()) % 4096, 0u);
      EXPECT_TRUE(std::equal(found.begin(), found.end(), bytes.begin(), bytes.end())) << key;
    }
  }
  std::filesystem::path only_file() {
    std::vector<std::filesystem::path> files;
    for (const auto& each : std::filesystem::directory_iterator(folder_.path()))
      files.push_back(each.path());
    EXPECT_EQ(files.size(), 1u);
    return files.at(0);
  }
  size_t count_of_files() {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_.path()),
                                             std::filesystem::directory_iterator()));
  }

  TemporaryFolder folder_;
  Weights weights_ = some_weights();
  PreparedCache cache_{Folder::open_path(folder_.path()), [] { return plenty_bytes; }};
};

TEST_F(PreparedCacheTest, GivesBackWhatWasKept) {
  EXPECT_FALSE(cache_.open(identity, 1));
  write();
  for (const int threads : {1, 3}) {
    const auto file = cache_.open(identity, threads);
    ASSERT_TRUE(file);
    expect_weights(*file);
    EXPECT_TRUE(file->find("e").empty());
  }
  EXPECT_EQ(count_of_files(), 1u) << "no draft and no lock stays";
}

TEST_F(PreparedCacheTest, IsForOneModelAndOneLayout) {
  write();
  EXPECT_FALSE(cache_.open({Digest::of("another"), identity.layout}, 1));
  EXPECT_FALSE(cache_.open({identity.model, "layout 2"}, 1));
  // A file that was given another's name is not believed.
  const auto file = only_file();
  const PreparedIdentity other = {Digest::of("another"), identity.layout};
  write(other);
  std::filesystem::path other_file;
  for (const auto& each : std::filesystem::directory_iterator(folder_.path())) {
    if (each.path() != file) other_file = each.path();
  }
  std::filesystem::rename(file, other_file);
  EXPECT_ERROR(cache_.open(other, 1), invalid_file, "another model");
}

TEST_F(PreparedCacheTest, AnyChangedBitIsFoundOrMeansNothing) {
  write();
  const auto path = only_file();
  std::ostringstream stream;
  stream << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string whole = stream.str();
  std::mt19937_64 random(11);
  int found = 0;
  for (int round = 0; round < 300; ++round) {
    std::string damaged = whole;
    // Half of the rounds in the header, the first ranges and the table, which are small.
    const size_t places[] = {random() % damaged.size(), random() % 64, 4096 + random() % 20000,
                             damaged.size() - 1 - random() % 400};
    damaged[places[round % 4]] ^= static_cast<char>(1 << random() % 8);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
    try {
      expect_weights(cache_.open(identity, 2).value());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_file) << error.what();
      ++found;
    }
  }
  EXPECT_GT(found, 200);
}

TEST_F(PreparedCacheTest, ACutOrGrownFileIsRefused) {
  write();
  const auto path = only_file();
  const auto size = std::filesystem::file_size(path);
  std::vector<uintmax_t> sizes = {size + 1, size * 2};
  std::mt19937_64 random(13);
  for (int i = 0; i < 60; ++i) sizes.push_back(random() % size);
  for (const uintmax_t each : {0, 1, 7, 8, 47, 48, 4095, 4096}) sizes.push_back(each);
  const TemporaryFolder kept;
  std::filesystem::copy(path, kept / "whole");
  for (const uintmax_t each : sizes) {
    std::filesystem::copy(kept / "whole", path, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(path, each);
    EXPECT_ERROR(cache_.open(identity, 2), invalid_file, "it");
    EXPECT_EQ(cache_.list().at(0).title, std::nullopt);
  }
}

TEST_F(PreparedCacheTest, WhatIsNoFileIsRefused) {
  write();
  const auto path = only_file();
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_ERROR(cache_.open(identity, 1), invalid_file, "no regular file");
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/dev/zero", path);
  EXPECT_THROW(cache_.open(identity, 1), DiskError);
}

TEST_F(PreparedCacheTest, NeedsRoomAndAReserve) {
  const PreparedCache cache(Folder::open_path(folder_.path()), [] { return int64_t{300} << 20; });
  EXPECT_TRUE(cache.create({identity, ""}, int64_t{40} << 20));
  EXPECT_ERROR(cache.create({identity, ""}, int64_t{50} << 20), io,
               "they take 52 MB and only 314 MB of the disk are free");
  EXPECT_EQ(count_of_files(), 0u);
}

// A limit on file sizes stands for a disk that is full.
TEST_F(PreparedCacheTest, AFullDiskLeavesNothing) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  for (const int64_t limit_bytes : {0, 4096, 10000, 3 << 20, 5 << 20}) {
    const rlimit limit = {static_cast<rlim_t>(limit_bytes), before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    // Told a smaller size than it will write, so that it gets past the claim of space.
    const auto fill = [&] {
      auto writing = cache_.create({identity, ""}, std::max<int64_t>(limit_bytes, 1));
      for (const auto& [key, bytes] : weights_) writing->file->add(key, bytes);
      for (const auto& [key, bytes] : weights_) writing->file->add(key + "'", bytes);
      writing->file->finish();
    };
    EXPECT_THROW(fill(), DiskError) << limit_bytes;
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(count_of_files(), 0u) << limit_bytes;
  }
  write();
  expect_weights(cache_.open(identity, 1).value());
}

TEST_F(PreparedCacheTest, OneWritesAtATimeAndOthersStillRead) {
  write();
  const auto reading = cache_.open(identity, 1);
  auto writing = cache_.create({identity, "new"}, size_of(weights_));
  ASSERT_TRUE(writing);
  EXPECT_FALSE(cache_.create({identity, "new"}, size_of(weights_)));
  EXPECT_TRUE(cache_.create({{identity.model, "layout 2"}, "other"}, 1));
  EXPECT_EQ(cache_.list().size(), 1u) << "what is being written does not count";
  expect_weights(cache_.open(identity, 1).value());
  writing->file->add("a", std::vector<std::byte>(3));
  writing->file->finish();
  writing.reset();
  expect_weights(*reading);
  EXPECT_EQ(cache_.open(identity, 1).value().find("a").size(), 3u);
  const auto size = static_cast<int64_t>(std::filesystem::file_size(only_file()));
  EXPECT_EQ(cache_.remove_all(), size);
  expect_weights(*reading);
}

TEST_F(PreparedCacheTest, AKilledWritersDraftGoes) {
  const pid_t child = fork();
  if (child == 0) {
    auto writing = cache_.create({identity, ""}, size_of(weights_));
    writing->file->add("a", weights_["d"]);
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(cache_.list().size(), 1u);
  EXPECT_EQ(cache_.list()[0].title, std::nullopt);
  EXPECT_FALSE(cache_.open(identity, 1));
  write();
  ASSERT_EQ(cache_.list().size(), 1u);
  EXPECT_EQ(cache_.list()[0].title.value().title, "a title");
}

TEST_F(PreparedCacheTest, RemovesThoseOfAModel) {
  write();
  write({identity.model, "layout 2"});
  write({Digest::of("another"), identity.layout});
  EXPECT_EQ(cache_.list().size(), 3u);
  EXPECT_GT(cache_.remove({identity.model}), 2 * size_of(weights_));
  ASSERT_EQ(cache_.list().size(), 1u);
  EXPECT_EQ(cache_.list()[0].title->identity.model, Digest::of("another"));
  EXPECT_EQ(cache_.remove_titled("no title"), 0);
  EXPECT_GT(cache_.remove_titled("a title"), 0);
  EXPECT_TRUE(cache_.list().empty());
}

class DigestOfFileTest : public PreparedCacheTest {
 protected:
  Digest digest(const std::filesystem::path& path) {
    reads_ = 0;
    return cache_.digest_of(FileWatch({path}), [&](int64_t, int64_t) {
      ++reads_;
      return true;
    });
  }

  TemporaryFolder models_;
  int reads_ = 0;
};

TEST_F(DigestOfFileTest, IsThatOfTheBytesAndReadOnce) {
  const auto path = models_.write("model.gguf", "weights");
  sleep(3);  // a file changed within two seconds is not remembered
  EXPECT_EQ(digest(path), Digest::of("weights"));
  EXPECT_GT(reads_, 0);
  EXPECT_EQ(digest(path), Digest::of("weights"));
  EXPECT_EQ(reads_, 0);
  // The same size, time and inode; what no program can set back is the time of change.
  const auto time = std::filesystem::last_write_time(path);
  bool is_remembered = true;
  for (int i = 0; i < 20 && is_remembered; ++i) {  // once within two seconds, on a slow machine
    models_.write("model.gguf", "WEIGHTS");
    std::filesystem::last_write_time(path, time);
    EXPECT_EQ(digest(path), Digest::of("WEIGHTS"));
    EXPECT_EQ(digest(path), Digest::of("WEIGHTS"));
    is_remembered = reads_ == 0;
  }
  EXPECT_FALSE(is_remembered) << "changed just now";
}

TEST_F(DigestOfFileTest, ABadRecordIsNotBelieved) {
  const auto path = models_.write("model.gguf", "weights");
  sleep(3);
  digest(path);
  const auto record = only_file();
  for (const char* text :
       {"", "{", "[]", "{}", R"({"sha256":1,"files":[]})", R"({"sha256":"../../x","files":[]})"}) {
    std::ofstream(record, std::ios::trunc) << text;
    EXPECT_EQ(digest(path), Digest::of("weights"));
    EXPECT_GT(reads_, 0);
  }
}

TEST_F(DigestOfFileTest, OfPartsDiffersFromEach) {
  const std::vector<std::filesystem::path> parts = {models_.write("1", "one"),
                                                    models_.write("2", "two")};
  const FileWatch watch(parts);
  const Digest both = cache_.digest_of(watch, {});
  EXPECT_EQ(both, model_digest(std::vector{Digest::of("one"), Digest::of("two")}));
  EXPECT_NE(both, Digest::of("one"));
  EXPECT_TRUE(watch.unchanged());
  models_.write("2", "three");
  EXPECT_FALSE(watch.unchanged());
}

TEST_F(DigestOfFileTest, CanBeStopped) {
  const auto path = models_.write("model.gguf", "weights");
  EXPECT_ERROR(cache_.digest_of(FileWatch({path}), [](int64_t, int64_t) { return false; }),
               cancelled, "");
}

}  // namespace
}  // namespace ridge::platform::prepared_cache_test
