#include "backend/ascend/acl/graph.h"

#include <thread>

#include "backend/ascend/acl/fixture.h"

namespace ridge::backend::ascend {
namespace {

using ::testing::HasSubstr;

class AclGraph : public AclTest {};

TEST_F(AclGraph, RunsWhenItIsReplayed) {
  std::vector<uint64_t> ran;
  twin_acl::add_kernel(
      host_kernel("noted", 1, [&](const auto& arguments) { ran.push_back(arguments[0]); }));
  const acl::Kernel noted = kernel("noted");
  const acl::DeviceMemory memory(context(), 64);
  const acl::HostMemory sent(context(), 64), back(context(), 64);
  acl::Stream stream(context()), other(context());
  std::unique_ptr<acl::Graph> graph;
  {
    acl::Capture capture(context(), stream);
    stream.upload(memory.span(), sent.span());
    acl::launch(stream, noted, acl::KernelArguments().add(uint64_t{1}), {});
    acl::launch(stream, noted, acl::KernelArguments().add(uint64_t{2}), {});
    stream.download(back.span(), memory.span());
    graph = capture.finish();
  }
  stream.synchronize();
  EXPECT_TRUE(ran.empty());
  for (const uint8_t value : {3, 4}) {
    std::ranges::fill(sent.span(), std::byte{value});
    acl::Stream& on = value == 3 ? stream : other;
    graph->replay(on);
    on.synchronize();
    EXPECT_EQ(back.span()[63], std::byte{value});
  }
  EXPECT_EQ(ran, (std::vector<uint64_t>{1, 2, 1, 2}));
}

TEST_F(AclGraph, IsForgottenWhereItIsNotFinished) {
  const acl::DeviceMemory memory(context(), 64);
  acl::Stream stream(context());
  {
    const acl::Capture capture(context(), stream);
    stream.fill(memory.span(), 1);
  }
  stream.fill(memory.span(), 2);
  stream.synchronize();
  std::vector<std::byte> back(64);
  acl::download(*context(), back, memory.span());
  EXPECT_EQ(back[0], std::byte{2});
}

TEST_F(AclGraph, RefusesWhatWaitsDuringACapture) {
  const acl::DeviceMemory memory(context(), 64);
  acl::Stream stream(context()), other(context());
  acl::Event event(context());
  const acl::Capture capture(context(), stream);
  EXPECT_THAT(std::string(error_of([&] { stream.synchronize(); }).message()),
              HasSubstr("107027 (stream is being captured)"));
  const std::vector<std::byte> bytes(64);
  for (const auto& body : std::vector<std::function<void()>>{
           [&] { other.synchronize(); }, [&] { acl::upload(*context(), memory.span(), bytes); },
           [&] { acl::DeviceMemory(context(), 64); }}) {
    EXPECT_THAT(std::string(error_of(body).message()),
                HasSubstr("107030 (not allowed during a capture)"));
  }
  EXPECT_THAT(std::string(error_of([&] { stream.record(event); }).message()),
              HasSubstr("the twin captures single streams"));
  // Other threads go on.
  std::thread([&] { acl::upload(*context(), memory.span(), bytes); }).join();
}

TEST_F(AclGraph, NeedsALibraryThatCanCapture) {
  const auto library = twin_library_without({"aclmdlRICaptureEnd"});
  EXPECT_FALSE(acl::Graph::is_available(*library));
  EXPECT_TRUE(acl::Graph::is_available(*twin_library()));
  const auto own = std::make_shared<acl::Context>(
      std::make_shared<acl::Device>(std::make_shared<acl::Runtime>(library), 0));
  acl::Stream stream(own);
  const Error error = error_of([&] { acl::Capture(own, stream); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(std::string(error.message()),
              HasSubstr("the twin (ACL 1.13.0) cannot capture graphs"));
}

TEST_F(AclGraph, TellsWhatFailsInAReplay) {
  bool is_broken = false;
  twin_acl::add_kernel(host_kernel("moody", 0, [&](const auto&) {
    if (is_broken) throw std::runtime_error("not today");
  }));
  const acl::Kernel moody = kernel("moody");
  acl::Stream stream(context());
  acl::Capture capture(context(), stream);
  acl::launch(stream, moody, {}, {});
  const auto graph = capture.finish();
  graph->replay(stream);
  stream.synchronize();
  is_broken = true;
  graph->replay(stream);
  EXPECT_THAT(std::string(error_of([&] { stream.synchronize(); }).message()),
              HasSubstr("not today"));
}

}  // namespace
}  // namespace ridge::backend::ascend
