// What ridge's own types do not let happen, done by the entry points themselves: the twin tells it.
#include "backend/ascend/acl/fixture.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::HasSubstr;
namespace status = abi::status;

class AclMisuse : public AclTest {
 protected:
  // The status was to be `wanted`, and the message to have `text`.
  static void expect(abi::Status got, abi::Status wanted, const std::string& text) {
    EXPECT_EQ(got, wanted) << text;
    EXPECT_THAT(message(), HasSubstr(text));
  }
  void* device_memory(size_t bytes) {
    void* address = nullptr;
    EXPECT_EQ(raw().aclrtMalloc(&address, bytes, abi::MallocPolicy::huge_pages_first), 0);
    return address;
  }
  void* host_memory(size_t bytes) {
    void* address = nullptr;
    EXPECT_EQ(raw().aclrtMallocHost(&address, bytes), 0);
    return address;
  }
  static void* beyond(void* address, size_t bytes) { return static_cast<char*>(address) + bytes; }
  abi::StreamHandle new_stream() {
    abi::StreamHandle stream = nullptr;
    EXPECT_EQ(raw().aclrtCreateStreamWithConfig(&stream, 0, 0), 0);
    return stream;
  }
};

TEST_F(AclMisuse, OfFreedMemory) {
  void* memory = device_memory(64);
  EXPECT_EQ(raw().aclrtFree(memory), 0);
  expect(raw().aclrtFree(memory), status::runtime_invalid_parameter, "was freed before");
  char text[64] = {};
  expect(raw().aclrtMemcpy(memory, 64, text, 64, abi::CopyKind::host_to_device),
         status::runtime_invalid_parameter, "is device memory that was freed");
  expect(raw().aclrtFree(text), status::runtime_invalid_parameter, "is not what aclrtMalloc gave");
  void* host = host_memory(64);
  EXPECT_EQ(raw().aclrtFreeHost(host), 0);
  expect(raw().aclrtFreeHost(host), status::runtime_invalid_parameter, "was freed before");
  expect(raw().aclrtFreeHost(text), status::runtime_invalid_parameter,
         "is not what aclrtMallocHost gave");
  void* again = device_memory(64);
  expect(raw().aclrtMemcpy(again, 64, host, 64, abi::CopyKind::host_to_device),
         status::runtime_invalid_parameter, "is host memory that was freed");
  expect(raw().aclrtFree(beyond(again, 32)), status::runtime_invalid_parameter,
         "is not what aclrtMalloc gave");
  EXPECT_EQ(raw().aclrtFree(again), 0);
}

TEST_F(AclMisuse, OfMemoryOfTheOtherSide) {
  void* device = device_memory(64);
  char host[64] = {};
  expect(raw().aclrtMemcpy(host, 64, host, 8, abi::CopyKind::host_to_device),
         status::invalid_memory_type, "the destination at");
  expect(raw().aclrtMemcpy(device, 64, host, 8, abi::CopyKind::device_to_device),
         status::invalid_memory_type, "is memory of the host, and the kind of copy says device");
  expect(raw().aclrtMemcpy(host, 64, device, 8, abi::CopyKind::host_to_host),
         status::invalid_memory_type, "is memory of the device, and the kind of copy says host");
  expect(raw().aclrtMemcpy(host, 64, device, 8, static_cast<abi::CopyKind>(9)),
         status::runtime_invalid_parameter, "there is no kind 9 of copy");
  EXPECT_EQ(raw().aclrtFree(device), 0);
}

TEST_F(AclMisuse, OfSizes) {
  void* device = device_memory(64);
  char host[128] = {};
  expect(raw().aclrtMemcpy(device, 32, host, 33, abi::CopyKind::host_to_device),
         status::runtime_invalid_parameter, "33 bytes do not fit the destination's 32");
  // destMax beyond the allocation is wrong even where the bytes would fit.
  expect(raw().aclrtMemcpy(device, 65, host, 64, abi::CopyKind::host_to_device),
         status::runtime_invalid_parameter, "run 1 bytes over the end of an allocation of 64 bytes");
  expect(raw().aclrtMemcpy(host, 128, beyond(device, 60), 5, abi::CopyKind::device_to_host),
         status::runtime_invalid_parameter, "5 bytes from the source");
  expect(raw().aclrtMemcpy(host, 128, device, 0, abi::CopyKind::device_to_host),
         status::runtime_invalid_parameter, "nothing of it may be 0");
  expect(raw().aclrtMemset(device, 64, 0, 65), status::runtime_invalid_parameter, "65 bytes of 64");
  void* none = nullptr;
  expect(raw().aclrtMalloc(&none, 0, abi::MallocPolicy::huge_pages_first),
         status::runtime_invalid_parameter, "of 0 bytes");
  EXPECT_EQ(raw().aclrtFree(device), 0);
}

TEST_F(AclMisuse, OfAsynchronousCopies) {
  const abi::StreamHandle stream = new_stream();
  void* device = device_memory(256);
  void* pinned = host_memory(256);
  char pageable[64] = {};
  expect(raw().aclrtMemcpyAsync(device, 256, pageable, 64, abi::CopyKind::host_to_device, stream),
         status::invalid_memory_type, "is not of aclrtMallocHost");
  expect(raw().aclrtMemcpyAsync(device, 64, beyond(device, 96), 64, abi::CopyKind::device_to_device,
                                stream),
         status::address_not_aligned, "multiples of 64");
  expect(raw().aclrtMemcpyAsync(pinned, 64, pinned, 64, abi::CopyKind::host_to_host, stream),
         status::runtime_feature_unsupported, "one side has to be on the device");
  expect(raw().aclrtMemsetAsync(pinned, 64, 0, 64, stream), status::invalid_memory_type,
         "is not memory of the stream's device");
  EXPECT_EQ(raw().aclrtSynchronizeStream(stream), 0);
  EXPECT_EQ(raw().aclrtDestroyStream(stream), 0);
  EXPECT_EQ(raw().aclrtFree(device), 0);
  EXPECT_EQ(raw().aclrtFreeHost(pinned), 0);
}

TEST_F(AclMisuse, OfHandles) {
  const abi::StreamHandle stream = new_stream();
  abi::EventHandle event = nullptr;
  ASSERT_EQ(raw().aclrtCreateEventExWithFlag(&event, abi::event_for_synchronising), 0);
  expect(raw().aclrtRecordEvent(reinterpret_cast<abi::EventHandle>(stream), stream),
         status::invalid_handle, "is no event, or one that was destroyed");
  EXPECT_EQ(raw().aclrtDestroyEvent(event), 0);
  expect(raw().aclrtDestroyEvent(event), status::invalid_handle, "one that was destroyed");
  EXPECT_EQ(raw().aclrtDestroyStream(stream), 0);
  expect(raw().aclrtSynchronizeStream(stream), status::invalid_handle, "one that was destroyed");
  expect(raw().aclrtCreateEventExWithFlag(&event, 0x100), status::runtime_invalid_parameter,
         "flags 0x100");
  abi::StreamHandle other = nullptr;
  expect(raw().aclrtCreateStreamWithConfig(&other, 8, 0), status::runtime_invalid_parameter,
         "priority 8");
}

TEST_F(AclMisuse, OfWhatIsStillInUse) {
  Gate gate("gate");
  const acl::Kernel held = kernel("gate");
  const abi::StreamHandle stream = new_stream();
  abi::EventHandle event = nullptr;
  ASSERT_EQ(raw().aclrtCreateEventExWithFlag(&event, abi::event_for_synchronising), 0);
  ASSERT_EQ(raw().aclrtLaunchKernelWithHostArgs(held.handle(), 1, stream, nullptr, nullptr, 0,
                                                nullptr, 0),
            0);
  ASSERT_EQ(raw().aclrtRecordEvent(event, stream), 0);
  expect(raw().aclrtDestroyEvent(event), status::runtime_invalid_parameter,
         "1 tasks of streams still name the event");
  gate.open();
  const abi::Status destroyed = raw().aclrtDestroyStream(stream);
  // As it may have ended by now.
  if (destroyed != 0) {
    EXPECT_THAT(message(), HasSubstr("aclrtSynchronizeStream comes first"));
  }
}

TEST_F(AclMisuse, OfContexts) {
  abi::ContextHandle other = nullptr;
  const abi::StreamHandle stream = new_stream();
  ASSERT_EQ(raw().aclrtCreateContext(&other, 0), 0);
  void* device = device_memory(64);
  expect(raw().aclrtSynchronizeStream(stream), status::stream_of_other_context,
         "of another context than this thread's");
  abi::StreamHandle of_other = new_stream();
  expect(raw().aclrtDestroyContext(other), status::runtime_invalid_parameter,
         "streams of the context are still there");
  EXPECT_EQ(raw().aclrtDestroyStream(of_other), 0);
  EXPECT_EQ(raw().aclrtMemsetAsync(device, 64, 0, 64, nullptr), 0);  // its default stream
  EXPECT_EQ(raw().aclrtSynchronizeStream(nullptr), 0);
  EXPECT_EQ(raw().aclrtDestroyContext(other), 0);
  expect(raw().aclrtMalloc(&device, 64, abi::MallocPolicy::huge_pages_first), status::no_context,
         "has no context, or one that was destroyed");
  expect(raw().aclrtSetCurrentContext(other), status::invalid_handle, "is no context");
  EXPECT_EQ(raw().aclrtFree(device), 0);
  EXPECT_EQ(raw().aclrtDestroyStream(stream), 0);
}

TEST_F(AclMisuse, LeaksAreTold) {
  const abi::Functions& functions = library_->functions();
  uint32_t count = 0;
  expect(functions.aclrtGetDeviceCount(&count), status::not_initialised, "aclInit comes first");
  ASSERT_EQ(functions.aclInit(nullptr), 0);
  expect(functions.aclInit(nullptr), status::repeated_initialise, "once is enough");
  expect(functions.aclrtSetDevice(1), status::invalid_device, "there is no device 1; there are 1");
  expect(functions.aclrtResetDevice(0), status::invalid_device, "nobody has set device 0");
  ASSERT_EQ(functions.aclrtSetDevice(0), 0);
  void* memory = nullptr;
  ASSERT_EQ(functions.aclrtMalloc(&memory, 100, abi::MallocPolicy::huge_pages_first), 0);
  ASSERT_EQ(functions.aclrtMallocHost(&memory, 100), 0);
  abi::StreamHandle stream = nullptr;
  ASSERT_EQ(functions.aclrtCreateStreamWithConfig(&stream, 0, 0), 0);
  abi::EventHandle event = nullptr;
  ASSERT_EQ(functions.aclrtCreateEventExWithFlag(&event, 1), 0);
  abi::ContextHandle context = nullptr;
  ASSERT_EQ(functions.aclrtCreateContext(&context, 0), 0);
  ::testing::internal::CaptureStderr();
  expect(functions.aclrtResetDevice(0), status::resources_left,
         "still there: 1 stream, 1 context, 1 allocation of 100 bytes on device 0");
  expect(functions.aclFinalize(), status::resources_left,
         "still there: 1 event, 1 allocation of host memory");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("ascend-twin: aclFinalize: still there: 1 event"));
  EXPECT_STREQ(ridge_ascend_twin_left(),
               "1 stream, 1 context, 1 allocation of 100 bytes on device 0; 1 event, 1 allocation of "
               "host memory");
}

TEST_F(AclMisuse, OfArguments) {
  twin_acl::add_kernel(host_kernel("one", 1, [](const auto&) {}));
  twin_acl::add_kernel(host_kernel("other", 1, [](const auto&) {}));
  const acl::Kernel one = kernel("one"), other = kernel("other");
  const abi::StreamHandle stream = new_stream();
  abi::ArgumentsHandle list = nullptr;
  abi::ParameterHandle parameter = nullptr;
  uint64_t value = 1;
  const auto launch = [&](abi::FunctionHandle function) {
    return raw().aclrtLaunchKernelWithConfig(function, 1, stream, nullptr, list, nullptr);
  };
  ASSERT_EQ(raw().aclrtKernelArgsInit(one.handle(), &list), 0);
  expect(raw().aclrtKernelArgsAppend(list, &value, 4, &parameter),
         status::runtime_invalid_parameter, "of 4 bytes; the twin takes 8");
  expect(launch(one.handle()), status::runtime_invalid_parameter,
         "aclrtKernelArgsFinalize comes first");
  ASSERT_EQ(raw().aclrtKernelArgsInit(one.handle(), &list), 0);
  ASSERT_EQ(raw().aclrtKernelArgsAppend(list, &value, 8, &parameter), 0);
  ASSERT_EQ(raw().aclrtKernelArgsFinalize(list), 0);
  expect(raw().aclrtKernelArgsAppend(list, &value, 8, &parameter),
         status::runtime_invalid_parameter, "final already");
  expect(launch(other.handle()), status::runtime_invalid_parameter, "another kernel's");
  expect(launch(one.handle()), status::invalid_handle, "is no list of arguments");
  expect(raw().aclrtLaunchKernelWithHostArgs(one.handle(), 0, stream, nullptr, &value, 8, nullptr,
                                             0),
         status::runtime_invalid_parameter, "on 0 blocks");
  abi::LaunchAttribute attribute{.id = 77};
  abi::LaunchConfig config{&attribute, 1};
  expect(raw().aclrtLaunchKernelWithHostArgs(one.handle(), 1, stream, &config, &value, 8, nullptr,
                                             0),
         status::runtime_feature_unsupported, "does not know attribute 77");
  EXPECT_EQ(raw().aclrtDestroyStream(stream), 0);
}

TEST_F(AclMisuse, OfCaptures) {
  const abi::StreamHandle stream = new_stream();
  abi::GraphHandle graph = nullptr;
  expect(raw().aclmdlRICaptureEnd(stream, &graph), status::stream_not_captured,
         "aclmdlRICaptureBegin comes first");
  expect(raw().aclmdlRICaptureBegin(nullptr, abi::CaptureMode::global),
         status::default_stream_captured, "another stream than the default one");
  ASSERT_EQ(raw().aclmdlRICaptureBegin(stream, abi::CaptureMode::relaxed), 0);
  expect(raw().aclmdlRICaptureBegin(stream, abi::CaptureMode::relaxed), status::stream_captured,
         "is being captured");
  void* memory = device_memory(64);  // relaxed: whoever does this knows why
  ASSERT_EQ(raw().aclrtFree(memory), 0);
  ASSERT_EQ(raw().aclmdlRICaptureEnd(stream, &graph), 0);
  EXPECT_EQ(raw().aclmdlRIDestroy(graph), 0);
  expect(raw().aclmdlRIExecuteAsync(graph, stream), status::invalid_handle, "is no graph");
  EXPECT_EQ(raw().aclrtDestroyStream(stream), 0);
}

}  // namespace
}  // namespace ridge::backend::ascend
