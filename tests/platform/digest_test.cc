#include "platform/digest.h"

#include <fcntl.h>

#include "base/temporary_folder.h"
#include "platform/folder.h"
#include "platform/throws.h"

namespace ridge::platform::digest_test {
namespace {

// Test vectors of FIPS 180-4.
constexpr const char* of_empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* of_million_a =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Digest, MatchesThePublishedVectors) {
  EXPECT_EQ(Digest::of("").to_string(), of_empty);
  EXPECT_EQ(Digest::of("abc").to_string(), of_abc);
}

TEST(Digest, TextIsExactly64LowerCaseDigits) {
  const std::string good = of_abc;
  ASSERT_TRUE(Digest::parse(good));
  EXPECT_EQ(Digest::parse(good)->to_string(), good);
  std::string upper = good;
  upper[0] = 'B';
  const std::string wrong[] = {"",
                               upper,
                               good + "0",
                               good.substr(1),
                               "sha256:" + good,
                               " " + good.substr(1),
                               "../" + good.substr(3),
                               good.substr(0, 63) + "g",
                               good.substr(0, 63) + '\0',
                               good.substr(0, 62) + "/."};
  for (const std::string& text : wrong) EXPECT_FALSE(Digest::parse(text)) << text;
  EXPECT_ERROR(Digest::parse_or_throw("../../etc/passwd", "a manifest"), invalid_argument,
               "a manifest");
}

TEST(Hasher, PiecesGiveTheSameAsTheWhole) {
  Hasher hasher;
  const std::string piece(1000, 'a');
  for (int i = 0; i < 1000; ++i) hasher.update(std::as_bytes(std::span(piece)));
  EXPECT_EQ(hasher.finish().to_string(), of_million_a);
  EXPECT_EQ(hasher.finish().to_string(), of_empty) << "finish() starts anew";
}

TEST(HashFile, ReadsFromTheStartAndCanBeStopped) {
  const TemporaryFolder temporary;
  temporary.write("a", std::string(3 << 20, 'a'));
  const Folder folder = Folder::open_path(temporary.path());
  const FileDescriptor file = folder.open("a", O_RDONLY);
  Hasher hasher;
  hash_file(file.get(), 1'000'000, hasher);
  EXPECT_EQ(hasher.finish().to_string(), of_million_a);
  EXPECT_ERROR(hash_file(file.get(), 3 << 20, hasher, [](int64_t) { return false; }), cancelled,
               "stopped");
  EXPECT_ERROR(hash_file(file.get(), 4 << 20, hasher), io, "shorter");
}

}  // namespace
}  // namespace ridge::platform::digest_test
