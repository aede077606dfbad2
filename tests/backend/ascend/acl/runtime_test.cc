#include "backend/ascend/acl/runtime.h"

#include <cstdlib>
#include <thread>

#include "backend/ascend/acl/fixture.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AclRuntime : public AclTest {};

TEST_F(AclRuntime, WithoutDevicesTellsWhatToLookFor) {
  set("devices", "0");
  EXPECT_EQ(runtime()->device_count(), 0u);
  const Error error = error_of([&] { acl::Device(runtime(), 0); });
  EXPECT_EQ(error.code(), ErrorCode::unavailable);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("the twin finds no Ascend device"), HasSubstr("/dev/davinci0")));
}

TEST_F(AclRuntime, TellsWhatHidesDevices) {
  set("devices", "0");
  ::setenv("ASCEND_RT_VISIBLE_DEVICES", "7", 1);
  const Error error = error_of([&] { acl::Device(runtime(), 0); });
  ::unsetenv("ASCEND_RT_VISIBLE_DEVICES");
  EXPECT_THAT(std::string(error.message()), HasSubstr("ASCEND_RT_VISIBLE_DEVICES is '7'"));
}

TEST_F(AclRuntime, HasDevicesByIndex) {
  set("devices", "2");
  EXPECT_EQ(runtime()->device_count(), 2u);
  EXPECT_EQ(acl::Device(runtime(), 1).index(), 1);
  for (const int32_t index : {2, -1}) {
    const Error error = error_of([&] { acl::Device(runtime(), index); });
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_THAT(std::string(error.message()), HasSubstr("this process may use 0 to 1"));
  }
}

TEST_F(AclRuntime, KeepsADeviceAsLongAsItHasUsers) {
  const acl::DeviceMemory memory(context(), 64);
  { const acl::Device second(runtime(), 0); }
  acl::upload(*context(), memory.span(), bytes_of("still here"));
  std::vector<std::byte> back(10);
  acl::download(*context(), back, memory.span().part(0, 10));
  EXPECT_EQ(back, bytes_of("still here"));
}

TEST_F(AclRuntime, EntersTheContextOfWhatIsUsed) {
  set("devices", "2");
  const auto first = context();
  const auto second = std::make_shared<acl::Context>(std::make_shared<acl::Device>(runtime(), 1));
  ::testing::internal::CaptureStderr();
  {
    const acl::DeviceMemory here(first, 4096), there(second, 8192);
    EXPECT_EQ(first->memory().free_bytes, memory_bytes - 4096);
    EXPECT_EQ(second->memory().free_bytes, memory_bytes - 8192);
    acl::Stream on_first(first), on_second(second);
    for (int i = 0; i < 3; ++i) {
      on_first.fill(here.span(), 1);
      on_second.fill(there.span(), 2);
    }
    on_first.synchronize();
    on_second.synchronize();
  }
  // Nor was anything released in a wrong one, which the log would say.
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(AclRuntime, NamesTheChip) {
  const std::map<std::string, std::string> names = {{"", "Ascend910B2"},
                                                    {"910B2", "Ascend910B2"},
                                                    {"910B4", "Ascend910B4"},
                                                    {"910C", "Ascend910_9391"}};
  for (const auto& [setting, soc] : names) {
    set("soc", setting);
    const auto own = std::make_shared<acl::Runtime>(twin_library());
    EXPECT_EQ(acl::Device(own, 0).soc(), soc);
  }
}

TEST_F(AclRuntime, RefusesOtherChips) {
  library_ = acl::Library::linked("a library", [](const char* name) -> void* {
    if (std::string_view(name) != "aclrtGetSocName") return twin_acl::find_entry_point(name);
    return reinterpret_cast<void*>(+[]() -> const char* { return "Ascend310P3"; });
  });
  const Error error = error_of([&] { acl::Device(runtime(), 0); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(std::string(error.message()), HasSubstr("device 0 is Ascend310P3; the kernels are"));
}

TEST_F(AclRuntime, HasTheChipsMemoryWhereNothingElseIsSaid) {
  ASSERT_TRUE(ridge_ascend_twin_set("memory_bytes", nullptr));
  set("soc", "910B4");
  EXPECT_EQ(context()->memory().total_bytes, uint64_t{32} << 30);
  EXPECT_EQ(context()->memory().free_bytes, uint64_t{32} << 30);
}

TEST_F(AclRuntime, TellsFreeMemory) {
  const acl::DeviceMemory memory(context(), 1 << 20);
  EXPECT_EQ(context()->memory().total_bytes, memory_bytes);
  EXPECT_EQ(context()->memory().free_bytes, memory_bytes - (1 << 20));
}

TEST_F(AclRuntime, UsesWhatAnotherPartOfTheProcessHasInitialised) {
  const auto library = twin_library();
  ASSERT_EQ(library->functions().aclInit(nullptr), abi::status::success);
  { EXPECT_EQ(acl::Runtime(library).device_count(), 1u); }
  // It is not ended with ours.
  uint32_t count = 0;
  EXPECT_EQ(library->functions().aclrtGetDeviceCount(&count), abi::status::success);
  EXPECT_EQ(library->functions().aclFinalize(), abi::status::success);
}

TEST_F(AclRuntime, IsOneForTheProcess) {
  const auto first = acl::Runtime::open(RIDGE_TWIN_LIBRARY);
  EXPECT_EQ(acl::Runtime::open(), first);
}

TEST_F(AclRuntime, IsSharedByThreads) {
  const acl::DeviceMemory memory(context(), 4096);
  const auto shared = runtime();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto own =
          std::make_shared<acl::Context>(std::make_shared<acl::Device>(shared, 0));
      const acl::DeviceSpan part = memory.span().part(static_cast<size_t>(i) * 1024, 1024);
      for (int turn = 0; turn < 20; ++turn) {
        // Now in one context, now in the other.
        const acl::Context& use = turn % 2 == 0 ? *own : *context();
        const std::vector<std::byte> sent(1024, static_cast<std::byte>(i * 20 + turn));
        std::vector<std::byte> back(1024);
        acl::upload(use, part, sent);
        acl::download(use, back, part);
        EXPECT_EQ(back, sent);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(AclRuntime, KnowsWrongSettings) {
  EXPECT_FALSE(ridge_ascend_twin_set("colour", "red"));
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"devices", "many"},
                                                                     {"devices", "17"},
                                                                     {"memory_bytes", "-1"},
                                                                     {"soc", "910A"},
                                                                     {"fail", "aclrtMalloc"},
                                                                     {"fail", "a:0"},
                                                                     {"fail", "a:1=0"}}) {
    set(name.c_str(), value);
    EXPECT_THAT(std::string(error_of([] { acl::Runtime own(twin_library()); }).message()),
                HasSubstr(value))
        << name;
    ASSERT_TRUE(ridge_ascend_twin_set(name.c_str(), nullptr));
  }
}

}  // namespace
}  // namespace ridge::backend::ascend
