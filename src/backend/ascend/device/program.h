#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>

#include "backend/ascend/device/lowering.h"
#include "backend/program.h"

namespace ridge::backend::ascend {

// A recording as launches on a stream, planned once for each shape of step that it meets. A shape that
// comes again is captured as graphs, where the library can, and replayed from then on: what differs between such
// steps is in buffers (positions, slots, lengths, block tables), addresses and tilings hang on the shape alone. What
// the host computes, and copies of blocks, stand between graphs.
class AscendProgram : public Program {
 public:
  // Throws unsupported naming the op, out_of_memory.
  AscendProgram(std::shared_ptr<Hardware> hardware, const Recording& recording);

  const Buffer& output(int index) const override;
  Buffer& given(int index) override { return given_.at(static_cast<size_t>(index)); }
  uint64_t arena_bytes() const override { return storages_->span().bytes + scratch_bytes_; }

  // Queues a step; the stream has come to rest. Ops on the host wait for it.
  void run(acl::Stream& stream, const StepShape& shape);

  // Names of the ops that the host does.
  const std::set<std::string>& host_ops() const { return host_ops_; }

 private:
  LoweringContext context() const;
  Plan& plan_for(const PlanKey& key);
  Plan make_plan(const PlanKey& key);
  int longest_query(const StepShape& shape) const;
  void copy_blocks(acl::Stream& stream, AscendKvCache& cache, int copies);
  using Action = decltype(Plan::actions)::value_type;
  // `launches` are run `number` of the plan's.
  void run_launches(acl::Stream& stream, Plan& plan, size_t number,
                    std::span<const Action> launches);

  std::shared_ptr<Hardware> hardware_;
  Recording recording_;
  Arena arena_;
  Feeds feeds_;
  std::set<std::string> host_ops_;
  std::unique_ptr<acl::DeviceMemory> storages_, halves_, scales_, scratch_;
  std::unique_ptr<acl::DeviceMemory> workspace_;  // as large as any plan so far needs
  uint64_t scratch_bytes_ = 0;
  bool can_capture_;
  std::map<PlanKey, Plan> plans_;
  std::vector<InputBuffer> given_;
  std::vector<DeviceBuffer> outputs_;
};

}  // namespace ridge::backend::ascend
