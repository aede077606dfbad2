#include "backend/ascend/device/launch_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backend/ascend/twin/acl/control.h"

namespace ridge::backend::ascend {

namespace {

// Below this share of the time nothing that is busy is what limits a launch.
constexpr double limiting_share = 2.0 / 3;
// Multiply-adds of halves that a cube core does in a cycle.
constexpr double cube_macs = 16 * 16 * 16;

std::string pipe_name(bool on_vector_core, twin::Pipe pipe) {
  return fmt::format("{} {}", on_vector_core ? "AIV" : "AIC", twin::name(pipe));
}

LaunchProfile launch_profile(const Soc& soc, const twin::KernelImage& kernel, uint32_t blocks,
                             const twin::LaunchReport& report) {
  LaunchProfile profile{.kernel = kernel.name, .blocks = blocks};
  profile.microseconds = report.microseconds;
  profile.hbm_bytes = report.traffic.hbm_bytes;
  profile.moved_bytes = report.traffic.moved_bytes;
  profile.limited_by = "waits";
  double longest = limiting_share * report.microseconds;
  const auto consider = [&](const std::string& name, double busy_us) {
    if (busy_us <= longest) return;
    longest = busy_us;
    profile.limited_by = name;
  };
  consider("HBM", report.hbm_us);
  consider("L2", report.l2_us);
  for (const bool on_vector_core : {false, true}) {
    const auto& counters = on_vector_core ? report.vector : report.cube;
    const auto& busiest = on_vector_core ? report.vector_busiest_us : report.cube_busiest_us;
    for (int p = 0; p < twin::pipe_count; ++p) {
      const twin::PipeCounters& counted = counters[p];
      if (counted.instructions == 0 && counted.cycles == 0) continue;
      const std::string name = pipe_name(on_vector_core, static_cast<twin::Pipe>(p));
      consider(name, busiest[p]);
      profile.macs += counted.macs;
      profile.pipes.push_back({.name = name,
                               .instructions = counted.instructions,
                               .bytes = counted.bytes,
                               .repeats = counted.repeats,
                               .bank_conflicts = counted.bank_conflicts,
                               .lines_512 = counted.lines_512,
                               .nd_nz_rows = counted.nd_nz_rows,
                               .macs = counted.macs,
                               .busy_us = busiest[p]});
    }
  }
  // The cube multiplies int8 twice as fast and int4 four times; what it multiplied by the cycles it
  // took is at most that.
  const twin::PipeCounters& cube = report.cube[static_cast<int>(twin::Pipe::m)];
  const double cycles =
      std::min(static_cast<double>(cube.cycles), static_cast<double>(cube.macs) / cube_macs);
  profile.least_us = std::max(report.hbm_us, cycles / soc.cube_cores / soc.clock_mhz);
  for (const twin::PipeSpan& span : report.timeline) {
    const std::string core = !span.on_vector_core ? "AIC" : fmt::format("AIV{}", span.sub_block);
    profile.timeline.push_back({.pipe = fmt::format("{} {}", core, twin::name(span.pipe)),
                                .call = span.call,
                                .place = span.place,
                                .instructions = span.instructions,
                                .start_us = span.begin_us,
                                .end_us = span.end_us});
  }
  return profile;
}

}  // namespace

LaunchLog::LaunchLog(const Soc& soc) : soc_(soc) {
  ridge_ascend_twin_set("count_only", "1");
  twin_acl::observe_launches([this](const twin::KernelImage& kernel, uint32_t blocks,
                                    const std::shared_ptr<const twin::LaunchReport>& report) {
    add(kernel, blocks, report);
  });
}

LaunchLog::~LaunchLog() {
  twin_acl::observe_launches({});
  ridge_ascend_twin_set("count_only", nullptr);
}

void LaunchLog::add(const twin::KernelImage& kernel, uint32_t blocks,
                    const std::shared_ptr<const twin::LaunchReport>& report) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const LaunchProfile>& profile = known_[report];
  if (profile == nullptr) {
    profile = std::make_shared<const LaunchProfile>(launch_profile(soc_, kernel, blocks, *report));
  }
  profile_.launches.push_back(profile);
}

StepProfile LaunchLog::take() {
  const std::lock_guard lock(mutex_);
  known_.clear();
  StepProfile taken = std::exchange(profile_, {});
  taken.task_overhead_us = twin::task_overhead_us;
  return taken;
}

}  // namespace ridge::backend::ascend
