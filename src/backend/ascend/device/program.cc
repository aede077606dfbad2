#include "backend/ascend/device/program.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "backend/ascend/device/host_op.h"
#include "backend/ascend/device/open.h"
#include "base/error.h"
#include "base/log.h"

namespace ridge::backend::ascend {

namespace {

// Shapes of steps whose plans are kept; each takes some kilobytes of device memory.
constexpr size_t most_plans = 64;

std::unique_ptr<acl::DeviceMemory> reserve(const std::shared_ptr<Hardware>& hardware,
                                           uint64_t bytes) {
  return std::make_unique<acl::DeviceMemory>(hardware->context(),
                                             std::max(bytes, memory_alignment));
}

// Counting wants each launch by itself.
bool wants_graphs(const Hardware& hardware) {
  const char* chosen = std::getenv(graphs_setting);
  return (chosen == nullptr || std::string_view(chosen) != "off") && !hardware.only_counts &&
         acl::Graph::is_available(hardware.context()->library());
}

acl::DeviceSpan span_of(const std::unique_ptr<acl::DeviceMemory>& memory) {
  return memory == nullptr ? acl::DeviceSpan() : memory->span();
}

}  // namespace

AscendProgram::AscendProgram(std::shared_ptr<Hardware> hardware, const Recording& recording)
    : hardware_(std::move(hardware)),
      recording_(recording),
      arena_(lay_out_arena(recording_)),
      feeds_(hardware_, recording_),
      can_capture_(wants_graphs(*hardware_)) {
  const StepLimits& limits = recording_.limits;
  for (const Op& op : recording_.ops) {
    if (is_on_host(op)) host_ops_.emplace(name(op));
  }
  storages_ = reserve(hardware_, arena_.bytes);
  // The largest step tells what is needed besides, and whether kernels can take the shapes.
  const Plan largest =
      lower(context(),
            {{.tokens = limits.tokens, .sequences = limits.sequences, .outputs = limits.outputs},
             limits.tokens});
  halves_ = reserve(hardware_, largest.halves_bytes);
  scales_ = reserve(hardware_, largest.scales_bytes);
  scratch_ = reserve(hardware_, largest.scratch_bytes);
  scratch_bytes_ = largest.halves_bytes + largest.scales_bytes + largest.scratch_bytes;
  const auto span = [&](const Value& value) {
    const auto index = static_cast<size_t>(value.storage);
    const Storage& storage = recording_.storages[index];
    return storages_->span().part(arena_.offsets[index],
                                  row_bytes(storage.dtype, storage.columns) *
                                      static_cast<size_t>(most_rows_of(storage.rows, limits)));
  };
  for (const Value& value : recording_.given) {
    given_.emplace_back(hardware_->context(), span(value));
  }
  for (const Value& value : recording_.outputs) outputs_.emplace_back(span(value));
}

const Buffer& AscendProgram::output(int index) const {
  return outputs_.at(static_cast<size_t>(index));
}

LoweringContext AscendProgram::context() const {
  return {*hardware_,
          recording_,
          arena_,
          feeds_,
          {span_of(storages_), span_of(halves_), span_of(scales_), span_of(scratch_)}};
}

int AscendProgram::longest_query(const StepShape& shape) const {
  if (recording_.inputs.query_starts == nullptr || shape.sequences == 0) return 0;
  const auto starts = integers_of(recording_.inputs.query_starts, shape.sequences + 1);
  int longest = 0;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    longest = std::max(longest, starts[i + 1] - starts[i]);
  }
  return longest;
}

Plan AscendProgram::make_plan(const PlanKey& key) {
  Plan plan = lower(context(), key);
  RIDGE_ASSERT(plan.halves_bytes <= halves_->span().bytes &&
               plan.scales_bytes <= scales_->span().bytes &&
               plan.scratch_bytes <= scratch_->span().bytes);
  if (plan.workspace_bytes > span_of(workspace_).bytes) {
    plans_.clear();  // they name the old one
    workspace_ = reserve(hardware_, plan.workspace_bytes);
  }
  plan.tiling_memory = reserve(hardware_, plan.tilings.size());
  acl::upload(*hardware_->context(), plan.tiling_memory->span(), plan.tilings);
  for (auto& action : plan.actions) {
    auto* launch = std::get_if<KernelCall>(&action);
    if (launch == nullptr) continue;
    if (launch->has_workspace) launch->arguments.add(workspace_->span());
    launch->arguments.add(plan.tiling_memory->span().address + launch->tiling_at);
  }
  return plan;
}

Plan& AscendProgram::plan_for(const PlanKey& key) {
  if (const auto known = plans_.find(key); known != plans_.end()) return known->second;
  Plan plan = make_plan(key);
  if (plans_.size() >= most_plans) plans_.clear();
  return plans_.emplace(key, std::move(plan)).first->second;
}

void AscendProgram::copy_blocks(acl::Stream& stream, AscendKvCache& cache, int copies) {
  const auto pairs = integers_of(recording_.inputs.block_copies, 2 * copies);
  for (size_t i = 0; i < pairs.size(); i += 2) {
    cache.copy_block(stream, /*to=*/pairs[i + 1], pairs[i]);
  }
}

void AscendProgram::run(acl::Stream& stream, const StepShape& shape) {
  const StepLimits& limits = recording_.limits;
  RIDGE_ASSERT(shape.tokens >= 0 && shape.tokens <= limits.tokens);
  RIDGE_ASSERT(shape.sequences >= 0 && shape.sequences <= limits.sequences);
  RIDGE_ASSERT(shape.outputs >= 0 && shape.outputs <= limits.outputs);
  RIDGE_ASSERT(shape.block_copies >= 0 && shape.block_copies <= limits.block_copies);
  feeds_.upload(stream, shape);
  Plan& plan = plan_for({shape, longest_query(shape)});
  const auto is_launch = [](const Action& action) {
    return std::holds_alternative<KernelCall>(action);
  };
  size_t runs = 0;
  for (std::span<const Action> left = plan.actions; !left.empty();) {
    const auto behind = std::ranges::find_if_not(left, is_launch);
    if (const auto count = static_cast<size_t>(behind - left.begin()); count > 0) {
      run_launches(stream, plan, runs++, left.first(count));
      left = left.subspan(count);
      continue;
    }
    if (const auto* assumed = std::get_if<Assumed>(&left.front())) {
      stream.synchronize();  // launches before it may read what was there
      acl::upload(*hardware_->context(), assumed->at, std::as_bytes(std::span(assumed->values)));
    } else if (const auto* copies = std::get_if<BlockCopies>(&left.front())) {
      copy_blocks(stream, *copies->cache, shape.block_copies);
    } else if (!hardware_->only_counts) {
      stream.synchronize();
      run_on_host(recording_, *std::get<HostCall>(left.front()).op, shape, *hardware_->context(),
                  storages_->span(), arena_);
    }
    left = left.subspan(1);
  }
  plan.was_run = true;
}

void AscendProgram::run_launches(acl::Stream& stream, Plan& plan, size_t number,
                                 std::span<const Action> launches) {
  const auto launch_each = [&] {
    for (const Action& action : launches) {
      const auto& call = std::get<KernelCall>(action);
      acl::launch(stream, *call.kernel, call.arguments, {.blocks = call.blocks});
    }
  };
  // Most prompts have a shape of their own: a graph is for what comes again.
  if (!can_capture_ || !plan.was_run) return launch_each();
  if (number == plan.graphs.size()) {
    try {
      acl::Capture capture(hardware_->context(), stream);
      launch_each();
      plan.graphs.push_back(capture.finish());
    } catch (const Error& error) {
      // The interface is called experimental, and steps run without it.
      log::warning("steps are launched kernel by kernel, as they cannot be captured: {}",
                   error.message());
      can_capture_ = false;
      return launch_each();
    }
  }
  plan.graphs[number]->replay(stream);
}

}  // namespace ridge::backend::ascend
