// Each call of ACL fails in turn: nothing is left over, and somebody is told.
#include "backend/ascend/acl/fixture.h"
#include "base/log.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

class AclFaults : public AclTest {
 protected:
  // All that a back end does, from the library to the last copy.
  static void run_everything(bool with_newer_launch) {
    const auto library = with_newer_launch
                             ? twin_library()
                             : twin_library_without({"aclrtLaunchKernelWithHostArgs"});
    const auto context = std::make_shared<acl::Context>(
        std::make_shared<acl::Device>(std::make_shared<acl::Runtime>(library), 0));
    const acl::Kernel idle(std::make_shared<acl::Binary>(context, twin_acl::kernels_path), "idle");
    static_cast<void>(context->memory());
    const acl::DeviceMemory first(context, 64), second(context, 64);
    const acl::HostMemory host(context, 64);
    acl::upload(*context, first.span(), host.span());
    acl::Event start(context, acl::EventUse::time), end(context, acl::EventUse::time);
    acl::Stream stream(context), other(context);
    std::unique_ptr<acl::Graph> graph;
    {
      acl::Capture capture(context, stream);
      acl::launch(stream, idle, acl::KernelArguments().add(first.span()), {});
      graph = capture.finish();
    }
    stream.upload(first.span(), host.span());
    stream.record(start);
    stream.copy(second.span(), first.span());
    stream.fill(first.span(), 0);
    acl::launch(stream, idle, acl::KernelArguments().add(first.span()), {.starts_together = true});
    graph->replay(stream);
    stream.record(end);
    other.wait(end);
    other.download(host.span(), second.span());
    end.wait();
    static_cast<void>(end.reached());
    static_cast<void>(end.milliseconds_since(start));
    other.synchronize(std::chrono::seconds(30));
    stream.synchronize();
    std::vector<std::byte> back(64);
    acl::download(*context, back, first.span());
  }

  // What was thrown, or else what was written to the log.
  static std::string told_by_everything(bool with_newer_launch) {
    ::testing::internal::CaptureStderr();
    std::string told;
    try {
      run_everything(with_newer_launch);
    } catch (const Error& error) {
      told = error.message();
    }
    const std::string logged = ::testing::internal::GetCapturedStderr();
    return told.empty() ? logged : told;
  }
};

TEST_F(AclFaults, OfEachCallLeaveNothingAndAreTold) {
  twin_acl::add_kernel(host_kernel("idle", 1, [](const auto&) {}));
  run_everything(true);  // AddressSanitizer has a word to say of the first fibre
  for (const bool with_newer_launch : {true, false}) {
    set("fail", "");
    EXPECT_EQ(told_by_everything(with_newer_launch), "");
    const uint64_t calls = ridge_ascend_twin_calls();
    ASSERT_GT(calls, 48u);
    for (uint64_t nth = 1; nth <= calls; ++nth) {
      for (const abi::Status status : {500000, 207001}) {
        set("fail", fmt::format("*:{}={}", nth, status));
        const std::string told = told_by_everything(with_newer_launch);
        // aclrtGetSocName has no status to give.
        EXPECT_THAT(told, AllOf(AnyOf(HasSubstr(fmt::format("ACL error {} (", status)),
                                      HasSubstr("aclrtGetSocName of device 0: ACL error 500000")),
                                HasSubstr("fault injected by RIDGE_ASCEND_TWIN_FAIL")))
            << "call " << nth;
        EXPECT_STREQ(ridge_ascend_twin_left(), "") << "call " << nth << ": " << told;
      }
    }
  }
  // And the twin is as good as new.
  set("fail", "");
  EXPECT_EQ(told_by_everything(true), "");
}

TEST_F(AclFaults, OfTasksAreToldBySynchronising) {
  twin_acl::add_kernel(host_kernel("idle", 1, [](const auto&) {}));
  for (int nth = 1; nth <= 6; ++nth) {
    set("fail", fmt::format("task:{}=507015", nth));
    const std::string told = told_by_everything(true);
    EXPECT_THAT(told, AllOf(HasSubstr("ACL error 507015 (a kernel failed)"),
                            HasSubstr("task: fault injected")))
        << "task " << nth;
    EXPECT_STREQ(ridge_ascend_twin_left(), "");
  }
}

TEST_F(AclFaults, ComeFromTheEnvironmentToo) {
  ASSERT_TRUE(ridge_ascend_twin_set("fail", nullptr));
  ::setenv("RIDGE_ASCEND_TWIN_FAIL", "aclrtMallocHost:2=207001,aclrtMalloc:1", 1);
  {
    const auto own = context();
    const acl::HostMemory first(own, 8);
    EXPECT_EQ(error_of([&] { acl::HostMemory(own, 8); }).code(), ErrorCode::out_of_memory);
    EXPECT_EQ(error_of([&] { acl::DeviceMemory(own, 8); }).code(), ErrorCode::internal);
    acl::DeviceMemory(own, 8);
  }
  ::unsetenv("RIDGE_ASCEND_TWIN_FAIL");
  ASSERT_TRUE(ridge_ascend_twin_set("fail", nullptr));
}

}  // namespace
}  // namespace ridge::backend::ascend
