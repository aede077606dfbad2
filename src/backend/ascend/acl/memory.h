#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/ascend/acl/runtime.h"

namespace ridge::backend::ascend::acl {

// Bytes of device memory. The host can do nothing with the address but pass it on.
struct DeviceSpan {
  uint64_t address = 0;
  size_t bytes = 0;

  // `offset + count` may not exceed `bytes`.
  DeviceSpan part(size_t offset, size_t count) const;
};

// Device memory, freed with the object; aligned to 32 bytes at least, and to 512 as far as is known.
// Its content is undefined at first.
// Work that is queued on a stream does not keep it: synchronise first.
class DeviceMemory {
 public:
  // `bytes` > 0. Throws out_of_memory, saying how much is free.
  DeviceMemory(std::shared_ptr<Context> context, size_t bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  DeviceSpan span() const { return {reinterpret_cast<uint64_t>(address_), bytes_}; }

 private:
  std::shared_ptr<Context> context_;
  void* address_ = nullptr;
  size_t bytes_;
};

// Page-locked memory of the host, which alone can be copied asynchronously; freed with the object.
class HostMemory {
 public:
  // `bytes` > 0. Throws out_of_memory.
  HostMemory(std::shared_ptr<Context> context, size_t bytes);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  std::span<std::byte> span() const { return {static_cast<std::byte*>(address_), bytes_}; }

 private:
  std::shared_ptr<Context> context_;
  void* address_ = nullptr;
  size_t bytes_;
};

// Copies of any memory of the host; they return when the bytes are there. `to` holds at least as
// much as `from`. They do not wait for streams.
void upload(const Context& context, DeviceSpan to, std::span<const std::byte> from);
void download(const Context& context, std::span<std::byte> to, DeviceSpan from);

}  // namespace ridge::backend::ascend::acl
