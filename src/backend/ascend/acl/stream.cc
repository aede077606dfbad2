#include "backend/ascend/acl/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace ridge::backend::ascend::acl {

struct Event::Handle {
  explicit Handle(std::shared_ptr<Context> of) : context(std::move(of)) {}
  ~Handle() {
    context->enter_to_release();
    // A stream that is still to reach it holds it as well: nothing waits for it here.
    if (value != nullptr) {
      context->library().check_and_log(context->functions().aclrtDestroyEvent(value),
                                       "aclrtDestroyEvent");
    }
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  std::shared_ptr<Context> context;
  abi::EventHandle value = nullptr;
};

Event::Event(std::shared_ptr<Context> context, EventUse use)
    : handle_(std::make_shared<Handle>(std::move(context))) {
  const Context& of = *handle_->context;
  of.enter();
  const uint32_t flags =
      abi::event_for_synchronising | (use == EventUse::time ? abi::event_with_time : 0);
  of.library().check(of.functions().aclrtCreateEventExWithFlag(&handle_->value, flags),
                     "aclrtCreateEventExWithFlag", [] { return "for an event"; });
}

bool Event::reached() const {
  const Context& of = *handle_->context;
  of.enter();
  auto status = abi::EventStatus::not_ready;
  of.library().check(of.functions().aclrtQueryEventStatus(handle_->value, &status),
                     "aclrtQueryEventStatus", [] { return "of an event"; });
  return status == abi::EventStatus::complete;
}

void Event::wait() const {
  const Context& of = *handle_->context;
  of.enter();
  of.library().check(of.functions().aclrtSynchronizeEvent(handle_->value), "aclrtSynchronizeEvent",
                     [] { return "for the work before an event"; });
}

double Event::milliseconds_since(const Event& start) const {
  const Context& of = *handle_->context;
  of.enter();
  float milliseconds = 0;
  of.library().check(
      of.functions().aclrtEventElapsedTime(&milliseconds, start.handle_->value, handle_->value),
      "aclrtEventElapsedTime", [] { return "between two events"; });
  return milliseconds;
}

Stream::Stream(std::shared_ptr<Context> context) : context_(std::move(context)) {
  context_->enter();
  context_->library().check(
      context_->functions().aclrtCreateStreamWithConfig(&handle_, /*priority=*/0, /*flags=*/0),
      "aclrtCreateStreamWithConfig",
      [&] { return fmt::format("on device {}", context_->device().index()); });
}

Stream::~Stream() {
  context_->enter_to_release();
  const abi::Functions& functions = context_->functions();
  const abi::Status status = functions.aclrtSynchronizeStream(handle_);
  if (failure_is_told_) {
    context_->library().forget_message();
  } else {
    context_->library().check_and_log(status, "aclrtSynchronizeStream");
  }
  named_.clear();
  context_->library().check_and_log(functions.aclrtDestroyStream(handle_), "aclrtDestroyStream");
}

void Stream::upload(DeviceSpan to, std::span<const std::byte> from) {
  RIDGE_ASSERT(from.size() <= to.bytes);
  if (from.empty()) return;
  context_->enter();
  context_->library().check(
      context_->functions().aclrtMemcpyAsync(reinterpret_cast<void*>(to.address), to.bytes,
                                             from.data(), from.size(),
                                             abi::CopyKind::host_to_device, handle_),
      "aclrtMemcpyAsync", [&] { return fmt::format("of {} bytes to the device", from.size()); });
}

void Stream::download(std::span<std::byte> to, DeviceSpan from) {
  RIDGE_ASSERT(to.size() >= from.bytes);
  if (from.bytes == 0) return;
  context_->enter();
  context_->library().check(
      context_->functions().aclrtMemcpyAsync(to.data(), to.size(),
                                             reinterpret_cast<const void*>(from.address),
                                             from.bytes, abi::CopyKind::device_to_host, handle_),
      "aclrtMemcpyAsync", [&] { return fmt::format("of {} bytes from the device", from.bytes); });
}

void Stream::copy(DeviceSpan to, DeviceSpan from) {
  RIDGE_ASSERT(from.bytes <= to.bytes);
  if (from.bytes == 0) return;
  context_->enter();
  context_->library().check(
      context_->functions().aclrtMemcpyAsync(reinterpret_cast<void*>(to.address), to.bytes,
                                             reinterpret_cast<const void*>(from.address),
                                             from.bytes, abi::CopyKind::device_to_device, handle_),
      "aclrtMemcpyAsync", [&] { return fmt::format("of {} bytes on the device", from.bytes); });
}

void Stream::fill(DeviceSpan to, uint8_t value) {
  if (to.bytes == 0) return;
  context_->enter();
  context_->library().check(
      context_->functions().aclrtMemsetAsync(reinterpret_cast<void*>(to.address), to.bytes, value,
                                             to.bytes, handle_),
      "aclrtMemsetAsync", [&] { return fmt::format("of {} bytes", to.bytes); });
}

void Stream::record(Event& event) {
  hold(event, /*is_recorded=*/true);
  context_->enter();
  context_->library().check(context_->functions().aclrtRecordEvent(event.handle_->value, handle_),
                            "aclrtRecordEvent", [] { return "on a stream"; });
}

void Stream::wait(const Event& event) {
  hold(event, /*is_recorded=*/false);
  context_->enter();
  context_->library().check(
      context_->functions().aclrtStreamWaitEvent(handle_, event.handle_->value),
      "aclrtStreamWaitEvent", [] { return "on a stream"; });
}

void Stream::hold(const Event& event, bool is_recorded) {
  constexpr size_t many = 64;
  if (named_.size() >= many) release_what_is_done();
  std::erase_if(named_, [&](const Named& named) { return named.event == event.handle_; });
  named_.push_back({event.handle_, is_recorded});
}

// A stream is in order: where a recorded event was reached, so was all before it.
void Stream::release_what_is_done() {
  size_t done = 0;
  for (size_t i = 0; i < named_.size(); ++i) {
    if (!named_[i].is_recorded) continue;
    auto status = abi::EventStatus::not_ready;
    const abi::Status asked =
        context_->functions().aclrtQueryEventStatus(named_[i].event->value, &status);
    if (asked != abi::status::success) context_->library().forget_message();
    if (status != abi::EventStatus::complete) break;
    done = i + 1;
  }
  named_.erase(named_.begin(), named_.begin() + static_cast<ptrdiff_t>(done));
}

void Stream::synchronize() {
  context_->enter();
  synchronized(context_->functions().aclrtSynchronizeStream(handle_), "aclrtSynchronizeStream");
}

void Stream::synchronize(std::chrono::milliseconds limit) {
  RIDGE_ASSERT(limit.count() > 0 && limit.count() <= std::numeric_limits<int32_t>::max());
  context_->enter();
  synchronized(context_->functions().aclrtSynchronizeStreamWithTimeout(
                   handle_, static_cast<int32_t>(limit.count())),
               "aclrtSynchronizeStreamWithTimeout");
}

void Stream::synchronized(abi::Status status, const char* call) {
  failure_is_told_ = status != abi::status::success;
  context_->library().check(status, call, [&] {
    return fmt::format("for the work of a stream of device {}", context_->device().index());
  });
  named_.clear();
}

}  // namespace ridge::backend::ascend::acl
