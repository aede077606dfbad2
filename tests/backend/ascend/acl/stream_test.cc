#include "backend/ascend/acl/stream.h"

#include <chrono>
#include <optional>
#include <thread>

#include "backend/ascend/acl/fixture.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

class AclStream : public AclTest {
 protected:
  void hold(acl::Stream& stream, const acl::Kernel& gate) { acl::launch(stream, gate, {}, {}); }
};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
void write(std::span<std::byte> to, std::string_view text) {
  std::memcpy(to.data(), text.data(), text.size());
}

TEST_F(AclStream, CopiesInOrderAndLater) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  const acl::DeviceMemory first(context(), 64), second(context(), 64);
  const acl::HostMemory sent(context(), 64), back(context(), 64);
  acl::Stream stream(context());
  write(sent.span(), std::string(64, 'a'));
  hold(stream, held);
  stream.upload(first.span(), sent.span());
  stream.copy(second.span(), first.span());
  stream.fill(first.span().part(0, 4), 'b');
  stream.copy(second.span().part(0, 0), first.span().part(0, 0));  // nothing
  stream.download(back.span().first(4), first.span().part(0, 4));
  stream.download(back.span().subspan(4, 60), second.span().part(4, 60));
  // Nothing of it has happened: the source may still change.
  EXPECT_EQ(back.span()[0], std::byte{0xff});
  write(sent.span(), std::string(64, 'c'));
  gate.open();
  stream.synchronize();
  EXPECT_EQ(text_of(back.span()), "bbbb" + std::string(60, 'c'));
}

TEST_F(AclStream, WaitsForAnEventOfAnother) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  const acl::DeviceMemory memory(context(), 64);
  const acl::HostMemory sent(context(), 64), back(context(), 64);
  write(sent.span(), std::string(64, 'x'));
  acl::Event written(context());
  acl::Stream writer(context()), reader(context());
  hold(writer, held);
  writer.upload(memory.span(), sent.span());
  writer.record(written);
  reader.wait(written);
  reader.download(back.span(), memory.span());
  EXPECT_FALSE(written.reached());
  EXPECT_EQ(error_of([&] { reader.synchronize(20ms); }).code(), ErrorCode::timed_out);
  gate.open();
  reader.synchronize();
  EXPECT_TRUE(written.reached());
  written.wait();
  EXPECT_EQ(text_of(back.span()), std::string(64, 'x'));
}

TEST_F(AclStream, WaitsForTheRecordThatWasThere) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  acl::Event event(context());
  acl::Stream first(context()), second(context());
  first.record(event);
  second.wait(event);
  hold(first, held);
  first.record(event);
  // Only the record before the wait counts.
  second.synchronize(60s);
  EXPECT_FALSE(event.reached());
  gate.open();
  event.wait();
  EXPECT_TRUE(event.reached());
}

TEST_F(AclStream, TellsHowLongItWaits) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  acl::Stream stream(context());
  hold(stream, held);
  const Error error = error_of([&] { stream.synchronize(5ms); });
  EXPECT_EQ(error.code(), ErrorCode::timed_out);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("aclrtSynchronizeStreamWithTimeout for the work of a stream of device "
                              "0: ACL error 507046 (timed out)"),
                    HasSubstr("1 tasks are still to be done")));
  gate.open();
  stream.synchronize();
}

TEST_F(AclStream, RunsBesideOthers) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  acl::Stream first(context()), second(context());
  const acl::DeviceMemory memory(context(), 64);
  hold(first, held);
  second.fill(memory.span(), 1);
  second.synchronize(60s);
  gate.open();
}

TEST_F(AclStream, IsWaitedForAtItsEnd) {
  std::atomic<int> ran = 0;
  twin_acl::add_kernel(host_kernel("slow", 0, [&](const auto&) {
    std::this_thread::sleep_for(5ms);
    ++ran;
  }));
  const acl::Kernel slow = kernel("slow");
  {
    acl::Stream stream(context());
    for (int i = 0; i < 3; ++i) acl::launch(stream, slow, {}, {});
  }
  EXPECT_EQ(ran, 3);
}

TEST_F(AclStream, StaysFailedAndTellsWhatFailedFirst) {
  twin_acl::add_kernel(
      host_kernel("broken", 0, [](const auto&) { throw std::runtime_error("out of cheese"); }));
  std::atomic<int> ran = 0;
  twin_acl::add_kernel(host_kernel("after", 0, [&](const auto&) { ++ran; }));
  const acl::Kernel broken = kernel("broken"), after = kernel("after");
  acl::Event event(context());
  acl::Stream other(context());
  {
    acl::Stream stream(context());
    acl::launch(stream, broken, {}, {});
    acl::launch(stream, after, {}, {});
    stream.record(event);
    other.wait(event);
    for (int i = 0; i < 2; ++i) {
      const Error error = error_of([&] { stream.synchronize(); });
      EXPECT_EQ(error.code(), ErrorCode::internal);
      EXPECT_THAT(std::string(error.message()),
                  AllOf(HasSubstr("ACL error 507015 (a kernel failed)"), HasSubstr("kernel broken"),
                        HasSubstr("out of cheese")));
    }
    EXPECT_THAT(std::string(error_of([&] { event.wait(); }).message()), HasSubstr("out of cheese"));
    EXPECT_THAT(std::string(error_of([&] { static_cast<void>(event.reached()); }).message()),
                HasSubstr("out of cheese"));
  }
  EXPECT_EQ(ran, 0);
  // Others go on.
  acl::launch(other, after, {}, {});
  other.synchronize();
  EXPECT_EQ(ran, 1);
}

TEST_F(AclStream, TellsThatMemoryWentAwayBeforeACopy) {
  // The error, where the memory went before the kernel ended that the copy waited for.
  const auto free_before_a_copy = [&](bool of_the_host, std::chrono::milliseconds lasts) {
    Gate gate("gate");
    const acl::Kernel held = kernel("gate");
    auto device = std::make_unique<acl::DeviceMemory>(context(), 64);
    auto host = std::make_unique<acl::HostMemory>(context(), 64);
    acl::Stream stream(context());
    hold(stream, held);
    stream.upload(device->span(), host->span());
    if (of_the_host) {
      host.reset();
      gate.open();
    } else {
      // Freeing waits for the kernel that runs.
      std::thread opener([&] {
        std::this_thread::sleep_for(lasts);
        gate.open();
      });
      device.reset();
      opener.join();
    }
    std::optional<Error> error;
    try {
      stream.synchronize();
    } catch (const Error& failure) {
      error = failure;
    }
    return error;
  };
  for (const bool of_the_host : {false, true}) {
    std::optional<Error> found;
    // That freeing has begun cannot be seen: where this thread stood still before, the copy is good.
    for (auto lasts = 20ms; !found && lasts < 30s; lasts *= 4) {
      found = free_before_a_copy(of_the_host, lasts);
    }
    ASSERT_TRUE(found);
    EXPECT_THAT(std::string(found->message()),
                AllOf(HasSubstr("507013 (a copy failed)"),
                      HasSubstr(of_the_host ? "was freed before the copy ran" : "went away")));
  }
}

TEST_F(AclStream, KeepsEventsThatItHasStillToReach) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  acl::Stream first(context()), second(context());
  hold(first, held);
  ::testing::internal::CaptureStderr();
  {
    acl::Event event(context());
    first.record(event);
    second.wait(event);
  }
  gate.open();
  first.synchronize();
  second.synchronize();
  // The log would say that an event was destroyed too early.
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), Not(HasSubstr("event")));
}

TEST_F(AclStream, LetsGoOfEventsThatAreLongPast) {
  acl::Stream stream(context());
  set("fail", "");  // counts anew
  for (int i = 0; i < 1000; ++i) {
    acl::Event event(context());
    stream.record(event);
    event.wait();
  }
  // Create, record, wait and destroy, and a query now and then: all but the last few are destroyed.
  EXPECT_GT(ridge_ascend_twin_calls(), 1000u * 4 - 64);
  EXPECT_LT(ridge_ascend_twin_calls(), 1000u * 6);
}

TEST_F(AclStream, TellsTheTimeThatTheDeviceWouldTake) {
  twin_acl::add_kernel(host_kernel("idle", 0, [](const auto&) {}));
  const acl::Kernel idle = kernel("idle");
  acl::Event start(context(), acl::EventUse::time), end(context(), acl::EventUse::time);
  acl::Stream stream(context());
  double microseconds = 0;
  twin_acl::observe_launches(
      [&](const auto&, uint32_t, const std::shared_ptr<const twin::LaunchReport>& report) {
        microseconds += report->microseconds;
      });
  stream.record(start);
  for (int i = 0; i < 3; ++i) acl::launch(stream, idle, {}, {});
  stream.record(end);
  stream.synchronize();
  twin_acl::observe_launches({});
  EXPECT_NEAR(end.milliseconds_since(start), microseconds / 1000, 1e-6);
}

TEST_F(AclStream, KnowsEventsWithoutTimeAndWithoutRecord) {
  acl::Event start(context()), end(context(), acl::EventUse::time);
  acl::Stream stream(context());
  EXPECT_THAT(std::string(error_of([&] { end.wait(); }).message()),
              HasSubstr("nobody has recorded the event"));
  EXPECT_THAT(std::string(error_of([&] { stream.wait(end); }).message()),
              HasSubstr("nobody has recorded the event"));
  stream.record(start);
  stream.record(end);
  stream.synchronize();
  EXPECT_THAT(std::string(error_of([&] { end.milliseconds_since(start); }).message()),
              HasSubstr("keeps no time"));
}

TEST_F(AclStream, IsUsedFromAnyThread) {
  const acl::DeviceMemory memory(context(), 64 * 8);
  const acl::HostMemory back(context(), 64 * 8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      acl::Stream stream(context());
      stream.fill(memory.span().part(64 * i, 64), static_cast<uint8_t>('a' + i));
      stream.download(back.span().subspan(64 * i, 64), memory.span().part(64 * i, 64));
      stream.synchronize();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(text_of(back.span().subspan(64 * i, 64)), std::string(64, static_cast<char>('a' + i)));
  }
}

}  // namespace
}  // namespace ridge::backend::ascend
