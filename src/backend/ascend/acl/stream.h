#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "backend/ascend/acl/memory.h"

namespace ridge::backend::ascend::acl {

enum class EventUse : uint8_t { order, time };  // whether it also keeps the time

// A point in a stream's work, once a stream has recorded it. Can be recorded again.
class Event {
 public:
  explicit Event(std::shared_ptr<Context> context, EventUse use = EventUse::order);

  // Both only after it was recorded. Throw what has failed before that point.
  bool reached() const;
  void wait() const;
  // From `start` to this one, both recorded, reached and made for EventUse::time.
  double milliseconds_since(const Event& start) const;

 private:
  friend class Stream;
  struct Handle;
  // Shared with streams that have still to wait for it, as ACL asks for it to outlive that.
  std::shared_ptr<Handle> handle_;
};

// Work of a device in order. Calls return once the work is queued; what fails later is told by
// `synchronize` or an event. Not for several threads at once.
class Stream {
 public:
  explicit Stream(std::shared_ptr<Context> context);
  // Waits for its work.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The host's side is HostMemory that stays as it is until the copy is done; `to` holds at least as
  // much as `from`. Device to device both addresses are multiples of 64 bytes.
  void upload(DeviceSpan to, std::span<const std::byte> from);
  void download(std::span<std::byte> to, DeviceSpan from);
  void copy(DeviceSpan to, DeviceSpan from);
  void fill(DeviceSpan to, uint8_t value);

  void record(Event& event);
  // What is queued from now on begins after the event was reached.
  void wait(const Event& event);

  // Throws what any of its work has failed with.
  void synchronize();
  // As above, or throws timed_out; `limit` > 0.
  void synchronize(std::chrono::milliseconds limit);

  const Context& context() const { return *context_; }
  abi::StreamHandle handle() const { return handle_; }

 private:
  // An event that queued work names.
  struct Named {
    std::shared_ptr<Event::Handle> event;
    bool is_recorded;  // else waited for
  };
  void hold(const Event& event, bool is_recorded);
  void release_what_is_done();
  void synchronized(abi::Status status, const char* call);

  std::shared_ptr<Context> context_;
  abi::StreamHandle handle_ = nullptr;
  bool failure_is_told_ = false;
  std::vector<Named> named_;  // in the order of the work
};

}  // namespace ridge::backend::ascend::acl
