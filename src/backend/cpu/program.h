#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backend/cpu/active_members.h"
#include "backend/cpu/schedule.h"

namespace ridge::backend::cpu {

class CpuProgram final : public Program {
 public:
  // communicator: as make_schedule. threads_in_turns: as DeviceOptions.
  CpuProgram(const Recording& recording, ThreadTeam& team, const KernelTable& kernels,
             LatentForm latent_form, Communicator* communicator, bool threads_in_turns);

  const Buffer& output(int index) const override { return *outputs_.at(index); }
  Buffer& given(int index) override { return *given_.at(index); }
  uint64_t arena_bytes() const override { return arena_.size_bytes(); }
  void run(const StepShape& shape);

 private:
  ThreadTeam& team_;
  const KernelTable kernels_;
  StepLimits limits_;
  StepPointers inputs_;
  std::vector<std::unique_ptr<Step>> steps_;
  Arena arena_;
  Memory shared_scratch_;
  std::vector<Memory> member_scratch_;
  std::unique_ptr<std::atomic<int64_t>[]> counters_;
  ActiveMembers active_;
  std::vector<std::unique_ptr<CpuBuffer>> given_;
  std::vector<std::unique_ptr<CpuBuffer>> outputs_;
};

}  // namespace ridge::backend::cpu
