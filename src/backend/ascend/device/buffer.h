#pragma once

#include <cstring>
#include <memory>

#include "backend/ascend/acl/memory.h"
#include "backend/device.h"
#include "base/error.h"

namespace ridge::backend::ascend {

// Page-locked memory as ops on the host read it; zero at first.
class HostMirror : public Buffer {
 public:
  HostMirror(const std::shared_ptr<acl::Context>& context, size_t bytes) : memory_(context, bytes) {
    std::memset(memory_.span().data(), 0, bytes);
  }
  size_t size_bytes() const override { return memory_.span().size(); }
  std::byte* host_data() override { return memory_.span().data(); }
  const std::byte* host_data() const override { return memory_.span().data(); }
  std::span<std::byte> span() const { return memory_.span(); }

 private:
  acl::HostMemory memory_;
};

// Device memory, or a part of it.
class DeviceBuffer : public Buffer {
 public:
  explicit DeviceBuffer(acl::DeviceSpan span) : span_(span) {}
  size_t size_bytes() const override { return span_.bytes; }
  std::byte* host_data() override { return nullptr; }
  const std::byte* host_data() const override { return nullptr; }
  acl::DeviceSpan span() const { return span_; }

 private:
  acl::DeviceSpan span_;
};

// Device memory that the host fills, and what it was filled with.
class InputBuffer : public DeviceBuffer {
 public:
  InputBuffer(const std::shared_ptr<acl::Context>& context, size_t bytes)
      : InputBuffer(context, std::make_unique<acl::DeviceMemory>(context, bytes)) {}
  // A part of memory that somebody else owns.
  InputBuffer(const std::shared_ptr<acl::Context>& context, acl::DeviceSpan span)
      : DeviceBuffer(span), context_(context) {}

  HostMirror& mirror() {
    if (mirror_ == nullptr) mirror_ = std::make_unique<HostMirror>(context_, size_bytes());
    return *mirror_;
  }
  // When a stream last read the mirror, in its own count of synchronisations.
  uint64_t copied_in_epoch = 0;

 private:
  InputBuffer(const std::shared_ptr<acl::Context>& context,
              std::unique_ptr<acl::DeviceMemory> memory)
      : DeviceBuffer(memory->span()), context_(context), memory_(std::move(memory)) {}

  std::shared_ptr<acl::Context> context_;
  std::unique_ptr<acl::DeviceMemory> memory_;
  std::unique_ptr<HostMirror> mirror_;  // from its first use on
};

// What the host put there: the first `count` numbers of an input of a step. The buffer may be nullptr
// where there are none.
inline std::span<const int32_t> integers_of(Buffer* buffer, int count) {
  if (count == 0) return {};
  RIDGE_ASSERT(buffer != nullptr && buffer->size_bytes() >= count * sizeof(int32_t));
  const HostMirror& mirror = static_cast<InputBuffer*>(buffer)->mirror();
  return {reinterpret_cast<const int32_t*>(mirror.span().data()), static_cast<size_t>(count)};
}

}  // namespace ridge::backend::ascend
