#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ridge::backend {

// Where a device keeps weights as it has prepared them, to find them at a later start. The device
// knows what the bytes mean; who implements this knows where they lie and that they are whole. It
// serves the one model that it was made for, and the calls of one thread, in the order below.
class PreparedStore {
 public:
  virtual ~PreparedStore() = default;
  // Once. `layout` says what the bytes mean (Device::prepared_layout): what was kept in another one
  // is never found. `bytes` is the sum of Device::prepared_bytes.
  virtual void begin(std::string_view layout, uint64_t bytes) = 0;
  // The bytes kept under `key`, from an address that is a multiple of 4096 on; they stay as long as
  // the store. Empty where nothing was kept.
  virtual std::span<const std::byte> find(std::string_view key) const = 0;
  // Throws nothing: where nothing can be kept (a full disk), a model still loads.
  virtual void keep(std::string_view key, std::span<const std::byte> bytes) = 0;
  // Once all weights were found or kept.
  virtual void finish() = 0;
};

}  // namespace ridge::backend
