#include "backend/ascend/twin/global_memory.h"

#include <fmt/format.h>

#include <cstring>

#include "backend/ascend/twin/global_range.h"
#include "base/error.h"

namespace ridge::backend::ascend::twin {

GlobalMemory::GlobalMemory(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
GlobalMemory::~GlobalMemory() = default;

uint64_t GlobalMemory::allocate(uint64_t bytes) {
  if (bytes == 0) throw Error(ErrorCode::invalid_argument, "device memory of 0 bytes was asked for");
  const std::lock_guard lock(mutex_);
  if (bytes > capacity_bytes_ - used_bytes_) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("{} bytes of device memory were asked for; {} of {} are free", bytes,
                            capacity_bytes_ - used_bytes_, capacity_bytes_));
  }
  auto range = std::make_unique<GlobalRange>(bytes);
  const uint64_t address = range->address();
  ranges_.emplace(address, std::move(range));
  used_bytes_ += bytes;
  return address;
}

void GlobalMemory::free(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = ranges_.find(address);
  if (found == ranges_.end()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("device address {:#x} is not the start of allocated memory", address));
  }
  used_bytes_ -= found->second->bytes();
  ranges_.erase(found);
}

GlobalRange* GlobalMemory::find(uint64_t address) const {
  const std::lock_guard lock(mutex_);
  auto next = ranges_.upper_bound(address);
  if (next == ranges_.begin()) return nullptr;
  GlobalRange& range = *std::prev(next)->second;
  return address - range.address() < range.bytes() ? &range : nullptr;
}

GlobalRange& GlobalMemory::range_of(uint64_t address, uint64_t bytes) const {
  GlobalRange* range = find(address);
  if (!range || bytes > range->bytes() - (address - range->address())) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} bytes at device address {:#x} are not allocated", bytes, address));
  }
  return *range;
}

void GlobalMemory::write(uint64_t address, std::span<const std::byte> from) {
  if (from.empty()) return;
  GlobalRange& range = range_of(address, from.size());
  std::memcpy(range.data_at(address), from.data(), from.size());
  std::memset(range.defined_at(address), 1, from.size());
}

void GlobalMemory::read(uint64_t address, std::span<std::byte> to) const {
  if (to.empty()) return;
  GlobalRange& range = range_of(address, to.size());
  const std::byte* data = range.data_at(address);
  const uint8_t* defined = range.defined_at(address);
  for (size_t i = 0; i < to.size(); ++i) to[i] = defined[i] ? data[i] : poison;
}

void GlobalMemory::fill(uint64_t address, std::byte value, uint64_t bytes) {
  if (bytes == 0) return;
  GlobalRange& range = range_of(address, bytes);
  std::memset(range.data_at(address), std::to_integer<int>(value), bytes);
  std::memset(range.defined_at(address), 1, bytes);
}

void GlobalMemory::copy(uint64_t to, uint64_t from, uint64_t bytes) {
  if (bytes == 0) return;
  GlobalRange& target = range_of(to, bytes);
  GlobalRange& source = range_of(from, bytes);
  std::memmove(target.data_at(to), source.data_at(from), bytes);
  std::memmove(target.defined_at(to), source.defined_at(from), bytes);
}

uint64_t GlobalMemory::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_;
}

}  // namespace ridge::backend::ascend::twin
