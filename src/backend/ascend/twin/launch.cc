#include "backend/ascend/twin/launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/launch_state.h"
#include "base/error.h"

namespace ridge::backend::ascend::twin {

std::string_view name(Pipe pipe) {
  constexpr std::string_view names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX"};
  return names[static_cast<int>(pipe)];
}

std::string_view name(Finding::Kind kind) {
  constexpr std::string_view names[] = {"bounds", "alignment", "parameter", "capacity",
                                        "undefined", "order", "flag", "queue",
                                        "deadlock", "coherence", "exception"};
  return names[static_cast<int>(kind)];
}

PipeCounters& PipeCounters::operator+=(const PipeCounters& other) {
  instructions += other.instructions;
  bytes += other.bytes;
  repeats += other.repeats;
  bank_conflicts += other.bank_conflicts;
  lines_512 += other.lines_512;
  nd_nz_rows += other.nd_nz_rows;
  macs += other.macs;
  cycles += other.cycles;
  return *this;
}

std::string LaunchReport::text() const {
  std::string lines;
  for (const Finding& finding : findings) {
    lines += fmt::format("[{}] {}\n", name(finding.kind), finding.message);
  }
  return lines;
}

LaunchReport launch(const KernelImage& kernel, uint32_t block_dim,
                    std::span<const std::byte> arguments, const LaunchOptions& options) {
  if (!options.soc || !options.memory) {
    throw Error(ErrorCode::invalid_argument, "a launch needs a device and its memory");
  }
  if (block_dim == 0 || block_dim > 65535) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} was launched on {} blocks; 1 to 65535 are possible", kernel.name,
                            block_dim));
  }
  if (arguments.size() != kernel.arguments * argument_bytes) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} takes {} arguments of {} bytes; {} bytes were given", kernel.name,
                            kernel.arguments, argument_bytes, arguments.size()));
  }
  return Launch(kernel, block_dim, arguments, options).run();
}

namespace {
constexpr uint64_t l2_line_bytes = 512;
}  // namespace

// Memories

namespace {
struct MemoryPool {
  std::mutex mutex;
  std::vector<std::array<LocalMemory, space_count>> free[2];
};
MemoryPool& memory_pool() {
  static MemoryPool pool;
  return pool;
}
}  // namespace

std::array<LocalMemory, space_count> take_memories(Core::Kind kind) {
  MemoryPool& pool = memory_pool();
  const std::lock_guard lock(pool.mutex);
  auto& free = pool.free[static_cast<int>(kind)];
  if (free.empty()) return {};
  auto memories = std::move(free.back());
  free.pop_back();
  return memories;
}

void give_back_memories(Core::Kind kind, std::array<LocalMemory, space_count> memories) {
  for (int s = 0; s < space_count; ++s) {
    if (memories[s].touched > 0) memories[s].reset(capacity_of(static_cast<Space>(s)));
  }
  MemoryPool& pool = memory_pool();
  const std::lock_guard lock(pool.mutex);
  pool.free[static_cast<int>(kind)].push_back(std::move(memories));
}

// Launch

Launch::Launch(const KernelImage& kernel, uint32_t block_dim, std::span<const std::byte> arguments,
               const LaunchOptions& options)
    : kernel(kernel),
      block_dim(block_dim),
      options(options),
      random(options.seed),
      arguments_(arguments.begin(), arguments.end()),
      hbm_(1e6 / (hbm_microseconds(*options.soc, 1'000'000) * options.soc->clock_mhz)),
      l2_(1e6 / (l2_microseconds(*options.soc, 1'000'000) * options.soc->clock_mhz)) {}

Launch::~Launch() = default;

bool Launch::one_wave() const {
  return block_dim <= cores_of(*options.soc, kernel.core_type);
}

LaunchReport Launch::run() {
  const uint32_t at_once = cores_of(*options.soc, kernel.core_type);
  for (uint32_t first = 0; first < block_dim && !stopping_; first += at_once) {
    run_wave(first, std::min(at_once, block_dim - first));
  }
  finish_report();
  return std::move(report_);
}

void Launch::finish_report() {
  GlobalTraffic& traffic = report_.traffic;
  traffic.moved_bytes = moved_bytes_;
  traffic.hbm_bytes = hbm_lines_ * l2_line_bytes;
  const Soc& soc = *options.soc;
  report_.hbm_us = hbm_microseconds(soc, traffic.hbm_bytes);
  report_.l2_us = l2_microseconds(soc, traffic.moved_bytes);
  double path = 0;
  for (const CoreTime& core : core_times_) {
    auto& busiest =
        core.kind == Core::Kind::cube ? report_.cube_busiest_us : report_.vector_busiest_us;
    for (int p = 0; p < pipe_count; ++p) {
      busiest[p] = std::max(busiest[p], core.pipes[p] / soc.clock_mhz);
      if (core.kind != Core::Kind::cube) continue;
      report_.cube_active_us[p] =
          std::max(report_.cube_active_us[p], core.active[p] / soc.clock_mhz);
    }
    path = std::max(path, core.path / soc.clock_mhz);
  }
  report_.microseconds = std::max({path, report_.hbm_us, report_.l2_us});
  if (options.timeline) finish_timeline();
}

double Launch::copy_end(double begin, double cycles, uint64_t hbm_bytes, uint64_t l2_bytes) {
  if (!options.count_only) return begin + cycles;
  return std::max({begin + cycles, hbm_.serve(begin, hbm_bytes), l2_.serve(begin, l2_bytes)});
}

void Launch::take_turns() {
  if (!options.count_only) return;
  running_->ready = nullptr;
  running_->fibre->suspend();
  if (stopping_) throw CoreStopped();
}

void Launch::note_span(const Span& span) {
  spans_.push_back(span);
}

// Instructions of one name that follow each other closely are one span, and so are short ones of several
// names: some hundred spans show what a pipe does.
void Launch::finish_timeline() {
  const double gap_us = report_.microseconds / 200;
  const double short_us = report_.microseconds / 100;
  std::map<std::pair<int, Pipe>, size_t> last;  // by core of the block and pipe: of report_.timeline
  for (const Span& span : spans_) {
    const double begin_us = span.begin / options.soc->clock_mhz;
    const double end_us = span.end / options.soc->clock_mhz;
    const std::pair<int, Pipe> key{span.on_vector_core ? 1 + span.sub_block : 0, span.pipe};
    const auto known = last.find(key);
    if (known != last.end()) {
      PipeSpan& before = report_.timeline[known->second];
      const bool is_same = before.call == span.site.call;
      const bool is_short = std::max(before.end_us - before.begin_us, end_us - begin_us) < short_us;
      if (begin_us - before.end_us <= gap_us && (is_same || is_short)) {
        if (!is_same) before.call = "several";
        before.end_us = std::max(before.end_us, end_us);
        ++before.instructions;
        continue;
      }
    }
    last[key] = report_.timeline.size();
    report_.timeline.push_back({span.on_vector_core, span.sub_block, span.pipe, span.site.call,
                                place(span.site.where), /*instructions=*/1, begin_us, end_us});
  }
  spans_.clear();
}

void Launch::start(Core::Kind kind, uint32_t block, uint32_t sub_block) {
  cores_.push_back({});
  Runner& runner = cores_.back();
  runner.core = std::make_unique<Core>(*this, static_cast<int>(cores_.size()) - 1, kind, block,
                                       sub_block);
  auto memories = take_memories(kind);
  for (int s = 0; s < space_count; ++s) {
    runner.core->memory(static_cast<Space>(s)) = std::move(memories[s]);
  }
  Core* core = runner.core.get();
  runner.fibre = std::make_unique<Fibre>([this, core] {
    try {
      kernel.entry(arguments_);
      core->finish();
    } catch (const CoreStopped&) {
    } catch (const std::exception& thrown) {
      core->report(Finding::Kind::exception, Site{kernel.name.c_str(), {}},
                   fmt::format("threw: {}", thrown.what()));
      stopping_ = true;
    }
  });
}

void Launch::run_wave(uint32_t first_block, uint32_t blocks) {
  cores_.clear();
  cores_.reserve(3 * blocks);  // fibres point to them
  hbm_.reset();
  l2_.reset();
  inboxes_.clear();
  for (uint32_t b = first_block; b < first_block + blocks; ++b) {
    if (kernel.core_type != CoreType::aiv_only) start(Core::Kind::cube, b, 0);
    if (kernel.core_type == CoreType::aic_only) continue;
    start(Core::Kind::vector, b, 0);
    if (kernel.core_type == CoreType::mix_aic_1_2) start(Core::Kind::vector, b, 1);
  }
  while (!stopping_) {
    running_ = choose();
    if (!running_) {
      const bool all_ended = std::all_of(cores_.begin(), cores_.end(), [](const Runner& runner) {
        return runner.fibre->ended();
      });
      if (all_ended) break;
      if (advance_blocked()) continue;
      report_deadlock();
      break;
    }
    running_->begun = true;
    running_->ready = nullptr;
    Core::set_current(running_->core.get());
    running_->fibre->resume();
  }
  if (stopping_) cancel();
  for (const auto& [key, inbox] : inboxes_) {
    if (stopping_ || key.second > 10) continue;
    for (const auto& [source, sets] : inbox.from) {
      if (sets.empty()) continue;
      cores_[source].core->report(Finding::Kind::flag, inbox.last_set,
                                  fmt::format("sets cross-core flag {}, for which {} never waits",
                                              key.second, cores_[key.first].core->name()));
    }
  }
  Core::set_current(nullptr);
  collect();
}

Launch::Runner* Launch::choose() {
  std::vector<Runner*> ready;
  Runner* earliest = nullptr;
  for (Runner& runner : cores_) {
    if (runner.fibre->ended() || (runner.ready && !runner.ready())) continue;
    if (options.count_only) {
      if (!earliest || runner.core->copies_at() < earliest->core->copies_at()) earliest = &runner;
      continue;
    }
    if (!delayed()) return &runner;
    ready.push_back(&runner);
  }
  if (options.count_only) return earliest;
  return ready.empty() ? nullptr : ready[random() % ready.size()];
}

bool Launch::advance_blocked() {
  const size_t first = delayed() ? random() % cores_.size() : 0;
  for (size_t c = 0; c < cores_.size(); ++c) {
    Runner& runner = cores_[(first + c) % cores_.size()];
    if (runner.fibre->ended()) continue;
    Core::set_current(runner.core.get());
    if (runner.core->advance_any()) return true;
  }
  return false;
}

void Launch::report_deadlock() {
  for (Runner& runner : cores_) {
    if (runner.fibre->ended()) continue;
    runner.core->report(Finding::Kind::deadlock, runner.waits_at,
                        fmt::format("waits for {}, which never comes", runner.waits_for));
  }
  stopping_ = true;
}

void Launch::cancel() {
  for (Runner& runner : cores_) {
    if (!runner.begun || runner.fibre->ended()) continue;
    runner.core->unwinding = true;
    running_ = &runner;
    Core::set_current(runner.core.get());
    runner.fibre->resume();  // throws where it waits
  }
}

void Launch::collect() {
  for (size_t c = 0; c < cores_.size(); ++c) {
    Core& core = *cores_[c].core;
    ++report_.cores;
    auto& sums = core.kind == Core::Kind::cube ? report_.cube : report_.vector;
    if (core_times_.size() <= c) core_times_.push_back({core.kind});
    CoreTime& time = core_times_[c];
    for (int p = 0; p < pipe_count; ++p) {
      sums[p] += core.counters[p];
      time.pipes[p] += core.counters[p].cycles;
      time.active[p] += core.active(static_cast<Pipe>(p));
      if (is_copy(static_cast<Pipe>(p))) moved_bytes_ += core.counters[p].bytes;
    }
    time.path += core.ended_at();
    std::array<LocalMemory, space_count> memories;
    for (int s = 0; s < space_count; ++s) {
      memories[s] = std::move(core.memory(static_cast<Space>(s)));
    }
    give_back_memories(core.kind, std::move(memories));
  }
  cores_.clear();
}

void Launch::wait(Core& core, std::function<bool()> ready, const Site& site,
                  const std::string& what) {
  Runner& runner = *running_;
  RIDGE_ASSERT(runner.core.get() == &core);
  while (!ready()) {
    runner.ready = ready;
    runner.waits_at = site;
    runner.waits_for = what;
    runner.fibre->suspend();
    if (stopping_) throw CoreStopped();
  }
}

// Faults

void Launch::add_finding(Finding::Kind kind, const Site& site, const std::string& message,
                         const Site* other) {
  if (stopping_) return;
  const std::string at = place(site.where);
  if (!seen_.emplace(kind, at, other ? place(other->where) : std::string(site.call)).second) return;
  const std::string file = at.substr(0, at.rfind(':'));
  report_.findings.push_back({kind, message, file, static_cast<int>(site.where.line())});
  if (static_cast<int>(report_.findings.size()) >= options.max_findings) stopping_ = true;
}

uint32_t Launch::site_index(const Site& site) {
  const auto [found, fresh] = site_indices_.try_emplace(
      {site.where.file_name(), static_cast<int>(site.where.line()), site.call},
      static_cast<uint32_t>(sites_.size()));
  if (fresh) sites_.push_back(site);
  return found->second;
}

// Global memory

Launch::Noted Launch::note_transfer(GlobalRange& range, uint64_t address, uint32_t bytes, bool write) {
  std::vector<RangeState::Line>& lines = ranges_[&range].lines;
  if (lines.empty()) lines.resize(range.bytes() / l2_line_bytes + 1);
  const auto l2_lines = static_cast<uint32_t>(options.soc->l2_bytes / l2_line_bytes);
  const uint64_t first = (address - range.address()) / l2_line_bytes;
  const uint64_t last = (address - range.address() + std::max(bytes, 1u) - 1) / l2_line_bytes;
  Noted noted;
  for (uint64_t l = first; l <= last; ++l) {
    RangeState::Line& line = lines[l];
    const bool is_there = line.used > 0 && filled_ - (line.used - 1) < l2_lines;
    if (!is_there) {
      ++filled_;
      if (line.is_dirty) ++hbm_lines_;  // it had to make room
      line.is_dirty = false;
      if (!write) noted.hbm_bytes += l2_line_bytes;
    }
    line.used = filled_ + 1;
    // What is read again while it is there is a launch's own, and need not go further.
    line.is_dirty = write;
    line.is_own |= write;
    noted.is_own |= line.is_own;
  }
  hbm_lines_ += noted.hbm_bytes / l2_line_bytes;
  return noted;
}

void Launch::visit_global(GlobalRange& range, uint64_t address, uint32_t bytes,
                          const Record& record,
                          const std::function<void(Cell&, uint32_t mask)>& visit) {
  RangeState& state = ranges_[&range];
  if (!state.written && !record.write) {
    state.reads.push_back({address, bytes, record});
    return;
  }
  if (!state.written) {
    state.written = true;
    for (LoggedRead& read : state.reads) {
      for_each_block(read.address, read.bytes, [&](uint64_t block, uint32_t mask) {
        read.record.mask = mask;
        state.cells[block].add(read.record);
      });
    }
    state.reads.clear();
  }
  for_each_block(address, bytes,
                 [&](uint64_t block, uint32_t mask) { visit(state.cells[block], mask); });
}

// Flags between cores. Mode 0: all cores of a kind; 1: the two vector cores of a block; 2: the cube
// core of a block and its vector cores; 3: all cores.

std::vector<int> Launch::sources(const Core& core, int mode) const {
  std::vector<int> found;
  for (const Runner& runner : cores_) {
    const Core& other = *runner.core;
    const bool same_kind = other.kind == core.kind;
    const bool same_block = other.block == core.block;
    const bool counts = mode == 0   ? same_kind
                        : mode == 1 ? same_kind && same_block
                        : mode == 2 ? !same_kind && same_block
                                    : true;
    if (counts) found.push_back(other.index);
  }
  return found;
}

void Launch::cross_set(Core& from, int mode, int id, const Clock& clock, double at,
                       const Site& site) {
  const std::vector<Clock::Lanes> published = clock.publish(from.index, cores());
  // Who waits for this core are those for whom it is a source: the relation goes both ways.
  for (const int target : sources(from, mode)) {
    Inbox& inbox = inboxes_[{target, id}];
    inbox.mode = mode;
    inbox.last_set = site;
    auto& queue = inbox.from[from.index];
    queue.push_back({published, at});
    if (queue.size() > 15) {
      from.report(Finding::Kind::flag, site,
                  fmt::format("sets cross-core flag {} {} times before {} waits; it counts to 15",
                              id, queue.size(), cores_[target].core->name()));
    }
  }
}

bool Launch::cross_ready(const Core& core, int id) const {
  const auto found = inboxes_.find({core.index, id});
  if (found == inboxes_.end()) return false;
  const std::vector<int> needed = sources(core, found->second.mode);
  return std::all_of(needed.begin(), needed.end(), [&](int source) {
    const auto sets = found->second.from.find(source);
    return sets != found->second.from.end() && !sets->second.empty();
  });
}

double Launch::cross_take(Core& core, int id, Clock& clock) {
  Inbox& inbox = inboxes_.at({core.index, id});
  double last = 0;
  for (const int source : sources(core, inbox.mode)) {
    auto& queue = inbox.from.at(source);
    clock.join_all(core.index, queue.front().clocks);
    last = std::max(last, queue.front().at);
    queue.pop_front();
  }
  return last;
}

}  // namespace ridge::backend::ascend::twin
