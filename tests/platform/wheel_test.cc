#include "platform/wheel.h"

#include <fcntl.h>
#include <zip.h>

#include <map>

#include <fstream>

#include "base/temporary_folder.h"
#include "platform/throws.h"
#include "platform/zip_file.h"

namespace ridge::platform::wheel_test {
namespace {

class ZipTest : public testing::Test {
 protected:
  void write(const std::map<std::string, std::string>& members) {
    zip_t* archive =
        zip_open((temporary_.path() / "a.zip").c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
    ASSERT_NE(archive, nullptr);
    for (const auto& [name, bytes] : members) {
      zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), 0);
      ASSERT_GE(zip_file_add(archive, name.c_str(), source, 0), 0);
    }
    ASSERT_EQ(zip_close(archive), 0);
  }
  std::string read(const std::string& member, int64_t size_bytes) {
    const Folder folder = Folder::open_path(temporary_.path());
    const FileDescriptor file = folder.open("a.zip", O_RDONLY);
    std::string text;
    read_zip_member(file.get(), member, size_bytes, [&](std::span<const std::byte> bytes) {
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    });
    return text;
  }
  TemporaryFolder temporary_;
};

TEST_F(ZipTest, ReadsTheOneMember) {
  const std::string large(5 << 20, 'x');
  write({{"p/m.gguf", large}, {"../../evil", "evil"}});
  EXPECT_EQ(read("p/m.gguf", static_cast<int64_t>(large.size())), large);
  EXPECT_FALSE(std::filesystem::exists(temporary_.path().parent_path().parent_path() / "evil"));
}

TEST_F(ZipTest, RefusesAnotherSizeBeforeItUnpacks) {
  write({{"m", std::string(100 << 20, '\0')}});  // 100 MB from 100 kB
  EXPECT_ERROR(read("m", 1000), invalid_file, "instead of 1000");
  EXPECT_ERROR(read("n", 1000), invalid_file, "no n inside");
}

TEST_F(ZipTest, RefusesWhatIsDamaged) {
  std::string varied;
  for (int i = 0; i < 100000; ++i) varied += static_cast<char>((i * 7919) >> 3);
  write({{"m", varied}});
  std::fstream file(temporary_.path() / "a.zip", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(2000);
  file.write("damage", 6);
  file.close();
  EXPECT_ERROR(read("m", static_cast<int64_t>(varied.size())), invalid_file, "");
  temporary_.write("a.zip", "no zip");
  EXPECT_ERROR(read("m", 1), invalid_file, "not a zip");
}

}  // namespace
}  // namespace ridge::platform::wheel_test
