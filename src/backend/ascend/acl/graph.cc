#include "backend/ascend/acl/graph.h"

#include <fmt/format.h>

namespace ridge::backend::ascend::acl {

bool Graph::is_available(const Library& library) {
  const abi::Functions& functions = library.functions();
  return functions.aclmdlRICaptureBegin != nullptr && functions.aclmdlRICaptureEnd != nullptr &&
         functions.aclmdlRIExecuteAsync != nullptr && functions.aclmdlRIDestroy != nullptr;
}

Graph::~Graph() {
  context_->enter_to_release();
  context_->library().check_and_log(context_->functions().aclmdlRIDestroy(handle_),
                                    "aclmdlRIDestroy");
}

void Graph::replay(Stream& stream) {
  context_->enter();
  context_->library().check(
      context_->functions().aclmdlRIExecuteAsync(handle_, stream.handle()), "aclmdlRIExecuteAsync",
      [] { return "of a captured graph"; });
}

Capture::Capture(std::shared_ptr<Context> context, Stream& stream)
    : context_(std::move(context)), stream_(&stream) {
  const Library& library = context_->library();
  if (!Graph::is_available(library)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} (ACL {}) cannot capture graphs: it lacks aclmdlRICaptureBegin and "
                            "what belongs to it",
                            library.path(), library.version().to_string()));
  }
  context_->enter();
  library.check(context_->functions().aclmdlRICaptureBegin(stream.handle(),
                                                           abi::CaptureMode::thread_local_),
                "aclmdlRICaptureBegin", [] { return "on a stream"; });
}

Capture::~Capture() {
  if (stream_ == nullptr) return;
  context_->enter_to_release();
  const abi::Functions& functions = context_->functions();
  abi::GraphHandle graph = nullptr;
  const abi::Status status = functions.aclmdlRICaptureEnd(stream_->handle(), &graph);
  context_->library().check_and_log(status, "aclmdlRICaptureEnd");
  if (status == abi::status::success) {
    context_->library().check_and_log(functions.aclmdlRIDestroy(graph), "aclmdlRIDestroy");
  }
}

std::unique_ptr<Graph> Capture::finish() {
  RIDGE_ASSERT(stream_ != nullptr);
  context_->enter();
  abi::GraphHandle graph = nullptr;
  // Where this fails the destructor tries again, so that the stream is not left in a capture.
  context_->library().check(context_->functions().aclmdlRICaptureEnd(stream_->handle(), &graph),
                            "aclmdlRICaptureEnd", [] { return "on a stream"; });
  stream_ = nullptr;
  return std::unique_ptr<Graph>(new Graph(context_, graph));
}

}  // namespace ridge::backend::ascend::acl
