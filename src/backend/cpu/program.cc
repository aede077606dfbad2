#include "backend/cpu/program.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Without the kernels that round otherwise where rows are many. Tiles give the bits of those for
// few, but no whole program has been tried with them here.
KernelTable batch_invariant(KernelTable kernels) {
  kernels.byte_panel = {};
  kernels.panel = {};
  kernels.scaled = {};
  kernels.tiles = {};
  return kernels;
}

}  // namespace

CpuProgram::CpuProgram(const Recording& recording, ThreadTeam& team, const KernelTable& kernels,
                       LatentForm latent_form, Communicator* communicator, bool threads_in_turns)
    : team_(team),
      kernels_(recording.limits.batch_invariant ? batch_invariant(kernels) : kernels),
      limits_(recording.limits),
      inputs_(recording),
      active_(team.size(), [&team] { return team.waited(); }, threads_in_turns) {
  steps_ = make_schedule(recording, team.size(), kernels_, latent_form, communicator);
  for (const Value& value : recording.given) arena_.use(value.storage, 0);  // before any step
  size_t shared = 0;
  size_t own = 0;
  for (const auto& step : steps_) {
    for (const Value& value : step->values()) arena_.use(value.storage, step->index);
    shared = std::max(shared, step->shared_scratch_bytes());
    own = std::max(own, step->member_scratch_bytes());
  }
  for (const Value& value : recording.outputs) arena_.keep_to_end(value.storage);
  arena_.allocate(recording);
  shared_scratch_ = Memory(shared);
  for (int member = 0; member < team.size(); ++member) member_scratch_.emplace_back(own);
  counters_ = std::make_unique<std::atomic<int64_t>[]>(steps_.size());
  const auto view = [&](const Value& value) {
    const Storage& storage = recording.storages[value.storage];
    const int rows = storage.rows == Rows::tokens ? limits_.tokens : limits_.outputs;
    const size_t bytes = static_cast<size_t>(rows) * row_bytes(storage.dtype, storage.columns);
    return std::make_unique<CpuBuffer>(reinterpret_cast<std::byte*>(arena_.at(value)), bytes);
  };
  for (const Value& value : recording.given) given_.push_back(view(value));
  for (const Value& value : recording.outputs) outputs_.push_back(view(value));
}

void CpuProgram::run(const StepShape& shape) {
  RIDGE_ASSERT(shape.tokens <= limits_.tokens && shape.sequences <= limits_.sequences);
  RIDGE_ASSERT(shape.outputs <= limits_.outputs && shape.block_copies <= limits_.block_copies);
  for (size_t i = 0; i < steps_.size(); ++i) counters_[i].store(0, std::memory_order_relaxed);
  const int members = active_.count(shape.tokens);
  Run run{kernels_,
          arena_,
          inputs_,
          shape,
          team_,
          members,
          shared_scratch_.data(),
          member_scratch_,
          counters_.get(),
          limits_.batch_invariant};
  const auto start = ActiveMembers::Clock::now();
  team_.run(
      [&](int member) {
        for (const auto& step : steps_) {
          step->run(run, member);
          // The team's own barrier follows the last step.
          if (step != steps_.back() && !step->runs_into_next()) team_.barrier();
        }
      },
      members);
  active_.ran(shape.tokens, start, ActiveMembers::Clock::now());
  if (run.failure) std::rethrow_exception(run.failure);
}

}  // namespace ridge::backend::cpu
