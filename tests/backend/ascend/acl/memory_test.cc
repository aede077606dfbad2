#include "backend/ascend/acl/memory.h"

#include <sys/mman.h>

#include "backend/ascend/acl/fixture.h"
#include "backend/ascend/twin/global_range.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AclMemory : public AclTest {};
using AclMemoryDeathTest = AclMemory;

TEST_F(AclMemory, KeepsWhatIsUploaded) {
  const acl::DeviceMemory memory(context(), 11);
  acl::upload(*context(), memory.span(), bytes_of("hello world"));
  acl::upload(*context(), memory.span().part(6, 5), bytes_of("there"));
  std::vector<std::byte> back(11);
  acl::download(*context(), back, memory.span());
  EXPECT_EQ(back, bytes_of("hello there"));
  acl::download(*context(), back, memory.span().part(6, 5));
  EXPECT_EQ(back, bytes_of("there there"));
}

TEST_F(AclMemory, OfTheDeviceIsPoisonAtFirst) {
  const acl::DeviceMemory memory(context(), 100);
  std::vector<std::byte> back(100);
  acl::download(*context(), back, memory.span());
  EXPECT_EQ(back, std::vector<std::byte>(100, twin::poison));
}

TEST_F(AclMemory, OfTheHostIsPoisonAtFirstAndWritable) {
  const acl::HostMemory memory(context(), 10000);
  for (const std::byte byte : memory.span()) ASSERT_EQ(byte, std::byte{0xff});
  memory.span().back() = std::byte{1};
}

TEST_F(AclMemory, IsAligned) {
  const acl::DeviceMemory first(context(), 1), second(context(), 1);
  EXPECT_EQ(first.span().address % 512, 0u);
  EXPECT_EQ(second.span().address % 512, 0u);
  EXPECT_NE(first.span().address, second.span().address);
}

TEST_F(AclMemory, ThatIsNotThereIsToldWithWhatIsFree) {
  const acl::DeviceMemory most(context(), memory_bytes - 4096);
  const Error error = error_of([&] { acl::DeviceMemory(context(), 8192); });
  EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("aclrtMalloc of 8192 bytes on device 0: ACL error 207001 (out of "
                              "memory): "),
                    HasSubstr("4096 of 67108864 bytes are free there")));
  acl::DeviceMemory(context(), 4096);
}

TEST_F(AclMemory, ThatWasFreedLongAgoMayBeTheHostsAgain) {
  uint64_t first = 0;
  {
    const acl::DeviceMemory memory(context(), 4096);
    first = memory.span().address;
  }
  for (int i = 0; i < 1024; ++i) acl::DeviceMemory(context(), 4096);  // as many as are kept apart
  const uint64_t page = first / 4096 * 4096;
  void* mapped = ::mmap(reinterpret_cast<void*>(page), 8192, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_EQ(mapped, reinterpret_cast<void*>(page));
  const acl::DeviceMemory memory(context(), 16);
  const std::span<const std::byte> host(reinterpret_cast<const std::byte*>(first), 16);
  acl::upload(*context(), memory.span(), host);
  std::vector<std::byte> back(16, std::byte{1});
  acl::download(*context(), back, memory.span());
  EXPECT_EQ(back, std::vector<std::byte>(16));
  ::munmap(mapped, 8192);
}

TEST_F(AclMemory, IsGivenBack) {
  for (int i = 0; i < 3; ++i) acl::DeviceMemory(context(), memory_bytes);
  EXPECT_EQ(context()->memory().free_bytes, memory_bytes);
}

TEST_F(AclMemory, OfTheHostThatIsNotThereIsTold) {
  const Error error = error_of([&] { acl::HostMemory(context(), size_t{1} << 62); });
  EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  EXPECT_THAT(std::string(error.message()), HasSubstr("aclrtMallocHost of 4611686018427387904"));
}

TEST_F(AclMemory, OfNoBytesNeedsNoCopy) {
  const acl::DeviceMemory memory(context(), 8);
  acl::upload(*context(), memory.span(), {});
  acl::download(*context(), {}, memory.span().part(8, 0));
}

TEST_F(AclMemoryDeathTest, OfTheDeviceCannotBeFollowedByTheHost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const acl::DeviceMemory memory(context(), 4096);
  acl::upload(*context(), memory.span(), bytes_of("secret"));
  const volatile char* address = reinterpret_cast<const char*>(memory.span().address);
  EXPECT_DEATH({ static_cast<void>(*address); }, "");
  EXPECT_DEATH({ *const_cast<volatile char*>(address) = 1; }, "");
}

TEST_F(AclMemoryDeathTest, OfTheHostEndsWhereItEndsAndWhenItIsFreed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  volatile std::byte* start = nullptr;
  {
    const acl::HostMemory memory(context(), 4096);
    start = memory.span().data();
    EXPECT_DEATH({ start[4096] = std::byte{1}; }, "");
  }
  EXPECT_DEATH({ start[0] = std::byte{1}; }, "");
}

TEST_F(AclMemoryDeathTest, PartsStayWithin) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const acl::DeviceSpan span{4096, 100};
  EXPECT_DEATH(span.part(50, 51), "does not hold");
  EXPECT_DEATH(span.part(101, 0), "does not hold");
  EXPECT_EQ(span.part(100, 0).address, 4196u);
}

}  // namespace
}  // namespace ridge::backend::ascend
