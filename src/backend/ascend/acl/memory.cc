#include "backend/ascend/acl/memory.h"

#include <fmt/format.h>

namespace ridge::backend::ascend::acl {

DeviceSpan DeviceSpan::part(size_t offset, size_t count) const {
  RIDGE_ASSERT(offset <= bytes && count <= bytes - offset);
  return {address + offset, count};
}

DeviceMemory::DeviceMemory(std::shared_ptr<Context> context, size_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  RIDGE_ASSERT(bytes > 0);
  context_->enter();
  const abi::Status status = context_->functions().aclrtMalloc(
      &address_, bytes, abi::MallocPolicy::huge_pages_first);
  if (status == abi::status::success) return;
  // Before anything else is asked, or the message is gone.
  const Error error = context_->library().error_of(
      status, "aclrtMalloc",
      fmt::format("of {} bytes on device {}", bytes, context_->device().index()));
  if (error.code() != ErrorCode::out_of_memory) throw error;
  const MemoryInfo memory = context_->memory();
  throw Error(error.code(), fmt::format("{}. {} of {} bytes are free there", error.message(),
                                        memory.free_bytes, memory.total_bytes));
}

DeviceMemory::~DeviceMemory() {
  context_->enter_to_release();
  context_->library().check_and_log(context_->functions().aclrtFree(address_), "aclrtFree");
}

HostMemory::HostMemory(std::shared_ptr<Context> context, size_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  RIDGE_ASSERT(bytes > 0);
  context_->enter();
  context_->library().check(context_->functions().aclrtMallocHost(&address_, bytes),
                            "aclrtMallocHost", [&] { return fmt::format("of {} bytes", bytes); });
}

HostMemory::~HostMemory() {
  context_->enter_to_release();
  context_->library().check_and_log(context_->functions().aclrtFreeHost(address_), "aclrtFreeHost");
}

void upload(const Context& context, DeviceSpan to, std::span<const std::byte> from) {
  RIDGE_ASSERT(from.size() <= to.bytes);
  if (from.empty()) return;
  context.enter();
  context.library().check(
      context.functions().aclrtMemcpy(reinterpret_cast<void*>(to.address), to.bytes, from.data(),
                                      from.size(), abi::CopyKind::host_to_device),
      "aclrtMemcpy", [&] { return fmt::format("of {} bytes to the device", from.size()); });
}

void download(const Context& context, std::span<std::byte> to, DeviceSpan from) {
  RIDGE_ASSERT(to.size() >= from.bytes);
  if (from.bytes == 0) return;
  context.enter();
  context.library().check(
      context.functions().aclrtMemcpy(to.data(), to.size(),
                                      reinterpret_cast<const void*>(from.address), from.bytes,
                                      abi::CopyKind::device_to_host),
      "aclrtMemcpy", [&] { return fmt::format("of {} bytes from the device", from.bytes); });
}

}  // namespace ridge::backend::ascend::acl
