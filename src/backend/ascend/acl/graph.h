#pragma once

#include <memory>

#include "backend/ascend/acl/stream.h"

namespace ridge::backend::ascend::acl {

// Work of a stream, captured once and replayed without the host's cost of queueing each part.
// Replays use the addresses of the capture. CANN calls the interface experimental.
class Graph {
 public:
  // Whether this library can capture.
  static bool is_available(const Library& library);

  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Queues all of it. The graph outlives that work: synchronise before it goes.
  void replay(Stream& stream);

 private:
  friend class Capture;
  Graph(std::shared_ptr<Context> context, abi::GraphHandle handle)
      : context_(std::move(context)), handle_(handle) {}

  std::shared_ptr<Context> context_;
  abi::GraphHandle handle_;
};

// While it lives, what is queued on the stream is kept and not run. Nothing may be synchronised or
// copied synchronously by this thread meanwhile.
class Capture {
 public:
  // Throws unsupported where the library cannot capture.
  Capture(std::shared_ptr<Context> context, Stream& stream);
  // Ends the capture and forgets it.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Ends the capture. Once.
  std::unique_ptr<Graph> finish();

 private:
  std::shared_ptr<Context> context_;
  Stream* stream_;  // null once it is finished
};

}  // namespace ridge::backend::ascend::acl
