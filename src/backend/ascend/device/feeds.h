#pragma once

#include <memory>
#include <vector>

#include "backend/ascend/acl/stream.h"
#include "backend/ascend/device/arena.h"
#include "backend/ascend/device/buffer.h"
#include "backend/ascend/device/hardware.h"

namespace ridge::backend::ascend {

// What the host computes for each step beside the engine's inputs, and copies to the device before
// the first kernel: rotations of the step's positions, and which rows have which adapter.
class Feeds {
 public:
  Feeds(const std::shared_ptr<Hardware>& hardware, const Recording& recording);

  // The stream has come to rest: it reads page-locked memory that this writes.
  void upload(acl::Stream& stream, const StepShape& shape);

  // 0, 1, 2, …: the rotations' row of each token.
  acl::DeviceSpan token_numbers() const { return numbers_->span(); }
  struct RopeTables {
    acl::DeviceSpan rotations;  // [tokens][2][rotary_dim], as fill_rotations
    acl::DeviceSpan partners;
  };
  RopeTables rope(const RopeTable& table) const;
  // [rows] float32: 1 where the row has that adapter, else 0.
  acl::DeviceSpan adapter_mask(Rows rows, size_t adapter) const;

 private:
  // Page-locked memory and the device's copy of it.
  struct Copied {
    Copied(const std::shared_ptr<acl::Context>& context, size_t bytes)
        : host(context, bytes), device(context, bytes) {}
    template <typename T>
    std::span<T> values() const {
      const std::span<std::byte> bytes = host.span();
      return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
    }
    acl::HostMemory host;
    acl::DeviceMemory device;
  };
  struct RopeFeed {
    RopeTable table;
    std::unique_ptr<Copied> rotations;
    std::unique_ptr<acl::DeviceMemory> partners;
  };
  size_t row_limit(Rows rows) const { return static_cast<size_t>(most_rows_of(rows, limits_)); }
  void fill_masks(Rows rows, const StepShape& shape);

  const StepBuffers inputs_;
  const StepLimits limits_;
  std::unique_ptr<acl::DeviceMemory> numbers_;
  std::vector<RopeFeed> ropes_;
  size_t adapters_ = 0;                   // that any op names
  std::unique_ptr<Copied> masks_[2];      // by Rows: [adapters][rows]
};

}  // namespace ridge::backend::ascend
