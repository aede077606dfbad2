#include "platform/folder.h"

#include <fcntl.h>

#include "base/temporary_folder.h"
#include "platform/throws.h"

namespace ridge::platform::folder_test {
namespace {

TEST(FileName, IsOneHarmlessWord) {
  for (const char* name : {"a", "sha256-0", "model.gguf", "..a", "ä"})
    EXPECT_TRUE(is_file_name(name)) << name;
  const std::string wrong[] = {
      "", ".", "..", "a/b", "/a", "../a", "a\n", std::string("a\0b", 3), std::string(256, 'a')};
  for (const std::string& name : wrong) EXPECT_FALSE(is_file_name(name)) << name;
}

TEST(Folder, FollowsNoSymbolicLink) {
  const TemporaryFolder outside;
  outside.write("secret", "secret");
  const TemporaryFolder inside;
  std::filesystem::create_symlink(outside.path() / "secret", inside.path() / "file");
  std::filesystem::create_symlink(outside.path(), inside.path() / "folder");
  const Folder folder = Folder::open_path(inside.path());
  EXPECT_ERROR(folder.open("file", O_RDONLY), io, "file");
  EXPECT_ERROR(folder.open("file", O_WRONLY | O_CREAT | O_TRUNC), io, "file");
  EXPECT_ERROR(folder.open_folder("folder"), io, "folder");
  EXPECT_FALSE(folder.status("file"));
}

TEST(Folder, AMissingFileIsAnEmptyDescriptor) {
  const TemporaryFolder temporary;
  const Folder folder = Folder::open_path(temporary.path());
  EXPECT_FALSE(folder.open("missing", O_RDONLY));
  EXPECT_FALSE(folder.status("missing"));
  EXPECT_FALSE(folder.remove("missing"));
}

TEST(FileLock, OneHolderAtATimeAndNoLitter) {
  const TemporaryFolder temporary;
  const Folder folder = Folder::open_path(temporary.path());
  {
    const auto held = FileLock::try_acquire(folder, "lock");
    ASSERT_TRUE(held);
    EXPECT_FALSE(FileLock::try_acquire(folder, "lock"));
  }
  EXPECT_TRUE(folder.list().empty());
  EXPECT_TRUE(FileLock::try_acquire(folder, "lock"));
}

TEST(ReadAll, RefusesMoreThanItsLimit) {
  const TemporaryFolder temporary;
  temporary.write("a", std::string(10000, 'a'));
  const Folder folder = Folder::open_path(temporary.path());
  EXPECT_EQ(read_all(folder.open("a", O_RDONLY).get(), 10000, "a").size(), 10000u);
  EXPECT_ERROR(read_all(folder.open("a", O_RDONLY).get(), 9999, "a"), invalid_file, "larger");
}

}  // namespace
}  // namespace ridge::platform::folder_test
