#include "format/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/temporary_folder.h"

namespace ridge::format::mapped_file_test {

namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ErrorCode code_of_opening(const std::filesystem::path& path) {
  try {
    MappedFile::open(path);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::internal;
}

}  // namespace

TEST(MappedFile, HoldsTheFilesBytesWhileItLives) {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "some bytes";
  MappedFile file = MappedFile::open(folder / "file");
  std::filesystem::remove(folder / "file");
  EXPECT_EQ(text_of(file.bytes()), "some bytes");
  MappedFile moved = std::move(file);
  EXPECT_EQ(text_of(moved.bytes()), "some bytes");
  EXPECT_TRUE(file.bytes().empty());
}

TEST(MappedFile, MapsAnEmptyFileAsNoBytes) {
  const TemporaryFolder folder;
  std::ofstream(folder / "empty").close();
  EXPECT_TRUE(MappedFile::open(folder / "empty").bytes().empty());
}

TEST(MappedFile, TellsWhyItCannotOpen) {
  const TemporaryFolder folder;
  EXPECT_EQ(code_of_opening(folder / "absent"), ErrorCode::not_found);
  EXPECT_EQ(code_of_opening(folder / ""), ErrorCode::io);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(code_of_opening(folder / "pipe"), ErrorCode::io) << "a pipe must not be waited for";
}

TEST(MappedFile, AdviceChangesNoByte) {
  const TemporaryFolder folder;
  std::string content(3 * 4096 + 100, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  std::ofstream(folder / "file", std::ios::binary) << content;
  const MappedFile file = MappedFile::open(folder / "file");
  for (Access access : {Access::sequential, Access::random, Access::will_need, Access::done}) {
    file.advise(file.bytes(), access);
    file.advise(file.bytes().subspan(10, 20), access);
    file.advise(file.bytes().subspan(4096, 5000), access);
    file.advise(file.bytes().last(1), access);
    file.advise({}, access);
    EXPECT_EQ(text_of(file.bytes()), content);
  }
}

}  // namespace ridge::format::mapped_file_test
