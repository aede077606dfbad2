#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "backend/ascend/acl/graph.h"
#include "backend/ascend/acl/kernel.h"
#include "backend/ascend/device/kv_cache.h"
#include "backend/ops.h"

namespace ridge::backend::ascend {

// One launch; before it runs, the workspace and its tiling become its last arguments.
struct KernelCall {
  const acl::Kernel* kernel;
  acl::KernelArguments arguments;
  uint32_t blocks;
  bool has_workspace;
  size_t tiling_at;  // in Plan::tilings
};
struct HostCall {
  const Op* op;
};
struct BlockCopies {
  AscendKvCache* cache;
};
// What launches behind it find in device memory where nothing is computed (Hardware::only_counts).
struct Assumed {
  acl::DeviceSpan at;
  std::vector<int32_t> values;
};

// What a recording does for steps of one shape, in order.
struct Plan {
  std::vector<std::variant<KernelCall, HostCall, BlockCopies, Assumed>> actions;
  std::vector<std::byte> tilings;
  std::unique_ptr<acl::DeviceMemory> tiling_memory;  // where they are on the device
  // Of each run of launches that nothing else interrupts, to be replayed without the host's part of
  // each launch; made when a plan is met again.
  std::vector<std::unique_ptr<acl::Graph>> graphs;
  bool was_run = false;
  // Memory that kernels take besides.
  uint64_t workspace_bytes = 0;
  uint64_t halves_bytes = 0;
  uint64_t scales_bytes = 0;
  uint64_t scratch_bytes = 0;
};

// What hangs on a step's shape.
struct PlanKey {
  StepShape shape;
  int longest_query = 0;  // tokens of the sequence with most
  auto operator<=>(const PlanKey& other) const {
    const auto fields = [](const PlanKey& key) {
      return std::array{key.shape.tokens, key.shape.sequences, key.shape.outputs,
                        key.longest_query};
    };
    return fields(*this) <=> fields(other);
  }
  bool operator==(const PlanKey& other) const { return (*this <=> other) == 0; }
};

}  // namespace ridge::backend::ascend
