#include "platform/batch/files.h"

#include <gmock/gmock.h>
#include <soci/soci.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::files_test {
namespace {

using namespace std::chrono_literals;

class FilesTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (database_) files_ = open();
  }
  std::unique_ptr<Files> open(const std::string& folder = "files", FileLimits limits = {}) {
    return std::make_unique<Files>(*database_, folder_ / folder, limits,
                                   [this] { return now_ms_; });
  }
  ClientFile add(const std::string& content, const std::string& project = "ours",
                 std::optional<int64_t> lifetime_ms = {}, const std::string& name = "a.jsonl") {
    ++now_ms_;
    return files_->add({project, name, "batch", lifetime_ms}, content);
  }
  std::string content(const ClientFile& file) {
    std::string bytes(static_cast<std::size_t>(file.bytes), '\0');
    read_from_disk(files_->open(file).get(), bytes);
    return bytes;
  }
  std::vector<std::string> on_disk(const std::string& part = "kept") {
    return Folder::open_path(folder_ / "files" / part).list();
  }
  std::vector<std::string> ids(const FileQuery& query) {
    std::vector<std::string> ids;
    for (const ClientFile& file : files_->list(query).files) ids.push_back(file.id);
    return ids;
  }

  std::unique_ptr<Files> files_;
};
INSTANTIATE_ON_BOTH_DATABASES(FilesTest);

TEST_P(FilesTest, KeepsBytesUnderAnIdOfOurs) {
  const std::string bytes("line\0one\r\n", 10);
  const ClientFile file = add(bytes, "ours", {}, "../../etc/passwd");
  EXPECT_THAT(file.id, testing::StartsWith("file-"));
  EXPECT_EQ(file.bytes, 10);
  EXPECT_EQ(on_disk(), std::vector{file.id});
  const ClientFile found = files_->find("ours", file.id);
  EXPECT_EQ(found.name, "../../etc/passwd") << "as it was called";
  EXPECT_EQ(found.purpose, "batch");
  EXPECT_EQ(found.created_at_ms, now_ms_);
  EXPECT_FALSE(found.expires_at_ms);
  EXPECT_EQ(content(found), bytes);
  EXPECT_EQ(content(add("")), "");
}

TEST_P(FilesTest, AreOneProjectsAlone) {
  const ClientFile file = add("secret");
  EXPECT_ERROR(files_->find("theirs", file.id), not_found, file.id);
  EXPECT_ERROR(files_->remove("theirs", file.id), not_found, file.id);
  EXPECT_THAT(ids({.project_id = "theirs"}), testing::IsEmpty());
  EXPECT_ERROR(files_->list({.project_id = "theirs", .after = file.id}), not_found, file.id);
  EXPECT_EQ(content(files_->find("ours", file.id)), "secret");
}

TEST_P(FilesTest, IdsFromClientsReachNoOtherFile) {
  folder_.write("secret", "x");
  for (const std::string id : {"../../secret", "../store.id", "", ".", "file-\0x", "' OR '1'='1"}) {
    EXPECT_ERROR(files_->find("ours", id), not_found, "there is no file");
    EXPECT_ERROR(files_->remove("ours", id), not_found, "there is no file");
  }
}

TEST_P(FilesTest, AreListedPageByPageInBothOrders) {
  std::vector<std::string> all;
  for (int i = 0; i < 5; ++i) all.push_back(add("x").id);
  add("x", "theirs");
  FilePage page = files_->list({.project_id = "ours", .limit = 2, .oldest_first = true});
  std::vector<std::string> seen;
  for (int pages = 0; pages < 3; ++pages) {
    EXPECT_EQ(page.has_more, pages < 2);
    for (const ClientFile& file : page.files) seen.push_back(file.id);
    page = files_->list(
        {.project_id = "ours", .after = seen.back(), .limit = 2, .oldest_first = true});
  }
  EXPECT_EQ(seen, all);
  EXPECT_EQ(ids({.project_id = "ours", .limit = 2}), (std::vector{all[4], all[3]}));
  EXPECT_EQ(ids({.project_id = "ours", .after = all[3], .limit = 9}),
            (std::vector{all[2], all[1], all[0]}));
  EXPECT_THAT(ids({.project_id = "ours", .purpose = "fine-tune"}), testing::IsEmpty());
}

TEST_P(FilesTest, AreGoneWithTheirBytesWhenTheyAreDeleted) {
  const ClientFile file = add("x");
  files_->remove("ours", file.id);
  EXPECT_ERROR(files_->find("ours", file.id), not_found, file.id);
  EXPECT_THAT(on_disk(), testing::IsEmpty());
  EXPECT_ERROR(files_->remove("ours", file.id), not_found, file.id);
}

TEST_P(FilesTest, ExpireWhenTheirTimeHasPassed) {
  const ClientFile kept = add("kept"), file = add("x", "ours", 1000);
  EXPECT_EQ(file.expires_at_ms, file.created_at_ms + 1000);
  now_ms_ += 999;
  EXPECT_EQ(content(files_->find("ours", file.id)), "x");
  now_ms_ += 1;
  EXPECT_ERROR(files_->find("ours", file.id), not_found, file.id);
  EXPECT_EQ(ids({.project_id = "ours"}), std::vector{kept.id});
  EXPECT_EQ(on_disk().size(), 2u);
  EXPECT_EQ(files_->sweep(), 1);
  EXPECT_EQ(on_disk(), std::vector{kept.id});
  EXPECT_EQ(files_->sweep(), 0);
}

TEST_P(FilesTest, KeepToTheirLimits) {
  files_ =
      open("files", {.most_file_bytes = 10, .most_project_bytes = 25, .most_project_files = 3});
  EXPECT_ERROR(add("12345678901"), payload_too_large, "11 bytes, and a file may have 10");
  add("1234567890");
  add("1234567890");
  EXPECT_ERROR(add("123456"), payload_too_large, "more than 25");
  add("12345");
  EXPECT_ERROR(add(""), payload_too_large, "3 files");
  add("1234567890", "theirs");
  EXPECT_EQ(on_disk().size(), 4u);
  EXPECT_THAT(on_disk("incoming"), testing::IsEmpty());
}

TEST_P(FilesTest, RefuseNamesThatCannotBeShown) {
  for (const std::string& name :
       {std::string(), std::string(256, 'x'), std::string("a\nb"), std::string("\xff")}) {
    EXPECT_ERROR(add("x", "ours", {}, name), invalid_argument, "file's name");
  }
  EXPECT_THAT(on_disk(), testing::IsEmpty());
}

TEST_P(FilesTest, SayThatTheDiskIsFullAndLeaveNothing) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  const std::string large(1 << 20, 'x');
  rlimit small = before;
  small.rlim_cur = 64 << 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  try {
    files_->add({"ours", "a", "batch", {}}, large);
    ADD_FAILURE() << "there was room";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr("no room on its disk"));
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
  EXPECT_THAT(on_disk(), testing::IsEmpty());
  EXPECT_THAT(on_disk("incoming"), testing::IsEmpty());
  EXPECT_THAT(ids({.project_id = "ours"}), testing::IsEmpty());
}

TEST_P(FilesTest, WhatACrashLeftIsSweptOnceItIsOld) {
  const ClientFile kept = add("kept");
  for (const char* name : {"files/kept/file-lost", "files/incoming/file-half.x"}) {
    folder_.write(name, "x");
  }
  const auto old = std::filesystem::file_time_type::clock::now() - 2h;
  for (const char* name : {"files/kept/file-lost", "files/incoming/file-half.x"}) {
    EXPECT_EQ(files_->sweep(), 0) << "it may be being written";
    std::filesystem::last_write_time(folder_ / name, old);
    EXPECT_EQ(files_->sweep(), 1) << name;
  }
  std::filesystem::last_write_time(folder_ / ("files/kept/" + kept.id), old);
  EXPECT_EQ(files_->sweep(), 0);
  EXPECT_EQ(content(kept), "kept");
}

TEST_P(FilesTest, ServersOfOneFolderServeTheSameAndOthersSayWhereTheBytesAre) {
  const ClientFile file = add("x");
  const auto same = open(), other = open("elsewhere");
  EXPECT_EQ(same->store(), files_->store());
  EXPECT_NE(other->store(), files_->store());
  EXPECT_TRUE(same->open(same->find("ours", file.id)));
  EXPECT_ERROR(other->open(other->find("ours", file.id)), unavailable, "--files-dir");
  now_ms_ += 1000;
  other->remove("ours", file.id);  // the bytes go with the next sweep of their folder
  EXPECT_ERROR(files_->find("ours", file.id), not_found, file.id);
}

TEST_P(FilesTest, AnUploadHasNoName) {
  const FileDescriptor upload = files_->begin_upload();
  write_to_disk(upload.get(), "bytes");
  EXPECT_EQ(status_of(upload.get()).size_bytes, 5);
  EXPECT_THAT(on_disk("incoming"), testing::IsEmpty());
}

}  // namespace
}  // namespace ridge::platform::files_test
