#include "backend/ascend/twin/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/launch_state.h"

namespace ridge::backend::ascend::twin {

namespace {

thread_local Core* current_core = nullptr;

bool overlap(const Access& a, const Access& b) {
  return a.space == b.space && a.address < b.address + b.bytes && b.address < a.address + a.bytes;
}

}  // namespace

// Core: what the scalar unit does

Core::Core(Launch& launch, int index, Kind kind, uint32_t block, uint32_t sub_block)
    : launch(launch),
      index(index),
      kind(kind),
      block(block),
      sub_block(sub_block),
      orders_(!launch.options.count_only) {}

Core& Core::current() { return *current_core; }
void Core::set_current(Core* core) { current_core = core; }

uint32_t Core::block_index() const {
  const bool mixed = launch.kernel.core_type == CoreType::mix_aic_1_2;
  return mixed && kind == Kind::vector ? 2 * block + sub_block : block;
}

std::string Core::name() const {
  return fmt::format("{} {}", kind == Kind::cube ? "AIC" : "AIV", block_index());
}

bool Core::has(Space space) const {
  return (space == Space::ub) == (kind == Kind::vector);
}

void Core::report(Finding::Kind finding, const Site& site, const std::string& message) {
  launch.add_finding(finding, site,
                     fmt::format("{}: {} {} ({})", place(site.where), site.call, message, name()));
}

void Core::fail(Finding::Kind finding, const Site& site, const std::string& message) {
  report(finding, site, message);
  launch.stop();
  throw CoreStopped();
}

uint32_t Core::allocate_buffer(Space space, uint32_t bytes, Site site) {
  if (!has(space)) {
    fail(Finding::Kind::capacity, site,
         fmt::format("asks for {}, which {} does not have", twin::name(space),
                     kind == Kind::cube ? "a cube core" : "a vector core"));
  }
  uint32_t& end = buffers_end_[static_cast<int>(space)];
  const uint32_t rounded = (bytes + block_bytes - 1) / block_bytes * block_bytes;
  if (rounded > capacity_of(space) - end) {
    fail(Finding::Kind::capacity, site,
         fmt::format("asks for {} bytes of {}; {} of {} are left", bytes, twin::name(space),
                     capacity_of(space) - end, capacity_of(space)));
  }
  LocalMemory& in = memory(space);
  if (in.data.empty()) in.reset(capacity_of(space));
  const uint32_t address = end;
  end += rounded;
  in.touched = std::max(in.touched, end);
  return address;
}

void Core::push(Pipe pipe, Step step) {
  if (launch.stopping()) throw CoreStopped();
  PipeState& to = state(pipe);
  PipeState& scalar = state(Pipe::s);
  if (orders_) step.issued = scalar.clock;
  // A place in the queue is free when the step before last so many has left it.
  if (to.steps_given >= queue_depth && to.steps_run + queue_depth > to.steps_given) {
    scalar.now = std::max(scalar.now, to.begun[to.steps_given % queue_depth]);
  }
  ++to.steps_given;
  scalar.now += scalar_issue_cycles;
  counters[static_cast<int>(Pipe::s)].cycles += scalar_issue_cycles;
  step.issued_at = scalar.now;
  const Site site = step.site;
  to.steps.push_back(std::move(step));
  if (!launch.delayed()) {
    run_eagerly();
  } else if (launch.random() % 8 == 0) {
    advance(static_cast<Pipe>(1 + launch.random() % (pipe_count - 1)));
  }
  while (to.steps.size() > queue_depth) {
    if (advance(pipe)) continue;
    fail(Finding::Kind::deadlock, site,
         fmt::format("finds the queue of {} full, whose first instruction {}",
                     twin::name(pipe), blocked_flag()));
  }
}

void Core::issue(Instruction&& instruction, std::function<void()> run) {
  instruction.counters.instructions = 1;
  counters[static_cast<int>(instruction.pipe)] += instruction.counters;
  push(instruction.pipe, {Step::Kind::instruction, instruction.site, {}, Pipe::s, 0, 0,
                          std::move(instruction.accesses), std::move(run),
                          instruction.accumulates, instruction.counters.cycles, /*issued_at=*/0,
                          instruction.hbm_bytes, instruction.l2_bytes});
  if (Launch::is_copy(instruction.pipe)) launch.take_turns();
}

namespace {
std::string flag_name(Pipe from, Pipe to, int id) {
  return fmt::format("<{}_{}>({})", name(from), name(to), id);
}
}  // namespace

void Core::set_flag(Pipe from, Pipe to, int id, Site site) {
  if (id < 0 || id > 7) {
    fail(Finding::Kind::flag, site, fmt::format("has id {}; ids are 0 to 7", id));
  }
  Flag& event = flag(from, to, id);
  if (event.sets_issued > event.waits_issued) {
    report(Finding::Kind::flag, site,
           fmt::format("sets {} which is set since {}; a wait belongs between the two",
                       flag_name(from, to, id), place(event.last_set.where)));
  }
  ++event.sets_issued;
  event.last_set = site;
  if (from == Pipe::s) {
    publish_flag(from, to, id);
    if (!launch.delayed()) run_eagerly();
    return;
  }
  push(from, {Step::Kind::set_flag, site, {}, to, 0, id, {}, {}, false});
}

void Core::publish_flag(Pipe from, Pipe to, int id) {
  PipeState& setter = state(from);
  Flag& event = flag(from, to, id);
  Clock published = setter.clock;
  published.raise_own(static_cast<int>(from), setter.time);
  event.set.push_back({published, setter.now});
}

void Core::wait_flag(Pipe from, Pipe to, int id, Site site) {
  if (id < 0 || id > 7) {
    fail(Finding::Kind::flag, site, fmt::format("has id {}; ids are 0 to 7", id));
  }
  Flag& event = flag(from, to, id);
  ++event.waits_issued;
  if (to != Pipe::s) {
    push(to, {Step::Kind::wait_flag, site, {}, from, 0, id, {}, {}, false});
    return;
  }
  while (event.set.empty()) {
    if (advance(from)) continue;
    fail(Finding::Kind::deadlock, site,
         fmt::format("waits for {}, which nothing sets", flag_name(from, to, id)));
  }
  state(Pipe::s).clock.join(event.set.front().clock);
  scalar_waits_until(event.set.front().at);
  event.set.erase(event.set.begin());
}

void Core::scalar_waits_until(double cycles) {
  PipeState& scalar = state(Pipe::s);
  scalar.now = std::max(scalar.now, cycles);
}

double Core::ended_at() const {
  double last = 0;
  for (const PipeState& pipe : pipes_) last = std::max(last, pipe.now);
  return last;
}

void Core::barrier(Pipe pipe, Site site) {
  push(pipe, {Step::Kind::barrier, site, {}, Pipe::s, 0, 0, {}, {}, false});
}

void Core::barrier_all(Site site) {
  drain(site);
  PipeState& scalar = state(Pipe::s);
  for (int p = 0; p < pipe_count; ++p) {
    scalar.clock.join(pipes_[p].clock);
    scalar.clock.raise_own(p, pipes_[p].time);
    scalar.now = std::max(scalar.now, pipes_[p].now);
  }
}

void Core::drain(Site site) {
  while (!idle()) {
    if (launch.stopping()) throw CoreStopped();
    if (advance_any()) continue;
    fail(Finding::Kind::deadlock, site, fmt::format("never ends: a pipe {}", blocked_flag()));
  }
}

std::string Core::blocked_flag() const {
  for (int p = 0; p < pipe_count; ++p) {
    if (pipes_[p].steps.empty()) continue;
    const Step& step = pipes_[p].steps.front();
    if (step.kind == Step::Kind::wait_flag) {
      return fmt::format("waits at {} for {}, which nothing sets", place(step.site.where),
                         flag_name(step.other, static_cast<Pipe>(p), step.id));
    }
  }
  return "does not end";
}

void Core::cross_set(Pipe pipe, int mode, int id, Site site) {
  if (id < 0 || id > 10 || mode < 0 || mode > 2) {
    fail(Finding::Kind::flag, site,
         fmt::format("has id {} and mode {}; ids are 0 to 10, modes 0 to 2", id, mode));
  }
  if (pipe == Pipe::s) {
    Clock published = state(Pipe::s).clock;
    published.raise_own(static_cast<int>(Pipe::s), state(Pipe::s).time);
    launch.cross_set(*this, mode, id, published, state(Pipe::s).now, site);
    return;
  }
  push(pipe, {Step::Kind::cross_set, site, {}, Pipe::s, mode, id, {}, {}, false});
}

void Core::cross_wait(int id, Site site) {
  if (id < 0 || id > 10) {
    fail(Finding::Kind::flag, site, fmt::format("has id {}; ids are 0 to 10", id));
  }
  launch.wait(*this, [this, id] { return launch.cross_ready(*this, id); }, site,
              fmt::format("cross-core flag {}", id));
  scalar_waits_until(launch.cross_take(*this, id, state(Pipe::s).clock));
}

void Core::sync_all(bool vector_only, Site site) {
  if (!launch.one_wave()) {
    fail(Finding::Kind::deadlock, site,
         fmt::format("waits for all {} blocks; the device has not as many cores",
                     launch.block_dim));
  }
  barrier_all(site);
  // Ids 11 and 12 are not the kernel's.
  const int id = vector_only ? 11 : 12;
  launch.cross_set(*this, vector_only ? 0 : 3, id, state(Pipe::s).clock, state(Pipe::s).now, site);
  launch.wait(*this, [this, id] { return launch.cross_ready(*this, id); }, site, "all cores");
  scalar_waits_until(launch.cross_take(*this, id, state(Pipe::s).clock));
}

int Core::free_flag(Pipe from, Pipe to) const {
  const auto& ids = flags_[static_cast<int>(from)][static_cast<int>(to)];
  for (int id = 0; id < 8; ++id) {
    if (!ids[id].allocated && ids[id].sets_issued == ids[id].waits_issued) return id;
  }
  return -1;
}

int Core::allocate_flag(Pipe from, Pipe to) {
  const int id = free_flag(from, to);
  if (id >= 0) flag(from, to, id).allocated = true;
  return id;
}

void Core::release_flag(Pipe from, Pipe to, int id) { flag(from, to, id).allocated = false; }

// Core: the pipes

bool Core::idle() const {
  return std::all_of(pipes_.begin(), pipes_.end(),
                     [](const PipeState& pipe) { return pipe.steps.empty(); });
}

bool Core::advance_any() {
  const int first = launch.delayed() ? static_cast<int>(launch.random() % pipe_count) : 0;
  for (int p = 0; p < pipe_count; ++p) {
    if (advance(static_cast<Pipe>((first + p) % pipe_count))) return true;
  }
  return false;
}

void Core::run_eagerly() {
  while (advance_any()) {
  }
}

bool Core::advance(Pipe pipe, uint32_t visited) {
  const uint32_t bit = 1u << static_cast<int>(pipe);
  if ((visited & bit) != 0 || state(pipe).steps.empty()) return false;
  const Step& front = state(pipe).steps.front();
  if (front.kind == Step::Kind::wait_flag && flag(front.other, pipe, front.id).set.empty()) {
    return advance(front.other, visited | bit);
  }
  run_front(pipe);
  return true;
}

// In the delayed schedule an instruction's result may come after the next one has read: so a barrier
// that is missing within a pipe changes what is computed. Where the next writes what this one reads
// the two keep their order, as they do on the chip.
bool Core::reorder(PipeState& pipe) {
  if (!launch.delayed() || pipe.steps.size() < 2) return false;
  Step& first = pipe.steps[0];
  Step& second = pipe.steps[1];
  if (second.kind != Step::Kind::instruction || first.accumulates || second.accumulates) {
    return false;
  }
  bool conflict = false;
  for (const Access& a : first.accesses) {
    for (const Access& b : second.accesses) {
      if (!overlap(a, b)) continue;
      if (!a.write && b.write) return false;
      conflict |= a.write;
    }
  }
  if (!conflict) return false;
  std::swap(first, second);
  return true;
}

void Core::run_front(Pipe pipe) {
  PipeState& on = state(pipe);
  if (on.steps.front().kind == Step::Kind::instruction && reorder(on) &&
      launch.options.check_order) {
    const Step& first = on.steps[1];
    const Step& second = on.steps[0];
    launch.add_finding(Finding::Kind::order, second.site,
                       fmt::format("{}: {} on {} needs what {} at {} writes on the same pipe; "
                                   "PipeBarrier<PIPE_{}> belongs between them ({})",
                                   place(second.site.where), second.site.call, twin::name(pipe),
                                   first.site.call, place(first.site.where), twin::name(pipe),
                                   name()),
                       &first.site);
  }
  const Step step = std::move(on.steps.front());
  on.steps.pop_front();
  if (orders_) on.clock.join(step.issued);
  ++on.time;
  on.now = std::max(on.now, step.issued_at);
  switch (step.kind) {
    case Step::Kind::instruction: {
      const double begin = on.now;
      on.now = Launch::is_copy(pipe)
                   ? launch.copy_end(begin, step.cycles, step.hbm_bytes, step.l2_bytes)
                   : begin + step.cycles;
      on.begun[on.steps_run % queue_depth] = begin;
      on.active += on.now - begin;
      note_span(pipe, step, begin, on.now);
      run_instruction(pipe, step);
      break;
    }
    case Step::Kind::set_flag:
      publish_flag(pipe, step.other, step.id);
      break;
    case Step::Kind::wait_flag: {
      Flag& event = flag(step.other, pipe, step.id);
      on.clock.join(event.set.front().clock);
      on.now = std::max(on.now, event.set.front().at);
      event.set.erase(event.set.begin());
      break;
    }
    case Step::Kind::barrier:
      on.clock.raise_own(static_cast<int>(pipe), on.time);
      break;
    case Step::Kind::cross_set: {
      Clock published = on.clock;
      published.raise_own(static_cast<int>(pipe), on.time);
      launch.cross_set(*this, step.mode, step.id, published, on.now, step.site);
      break;
    }
  }
  if (step.kind != Step::Kind::instruction) on.begun[on.steps_run % queue_depth] = on.now;
  ++on.steps_run;
}

void Core::note_span(Pipe pipe, const Step& step, double begin, double end) {
  if (!launch.options.timeline || block != 0) return;
  launch.note_span({kind == Kind::vector, static_cast<uint8_t>(sub_block), pipe, step.site,
                    begin, end});
}

void Core::run_instruction(Pipe pipe, const Step& step) {
  if (launch.options.count_only) return;
  for (const Access& access : step.accesses) {
    if (!access.write && access.undefined == Undefined::report) check_defined(access, step.site);
  }
  for (const Access& access : step.accesses) {
    check_order(access, pipe, step.site, step.accumulates);
  }
  step.run();
  for (const Access& access : step.accesses) {
    if (access.write && access.undefined == Undefined::report) {
      std::memset(access.defined, 1, access.bytes);
    }
  }
}

void Core::check_defined(const Access& access, const Site& site) {
  if (launch.options.count_only) return;
  const void* hole = std::memchr(access.defined, 0, access.bytes);
  if (!hole) return;
  const auto offset = static_cast<const uint8_t*>(hole) - access.defined;
  report(Finding::Kind::undefined, site,
         fmt::format("reads {} bytes of {} of which byte {} was never written", access.bytes,
                     twin::name(access.space), offset));
  std::memset(access.defined, 1, access.bytes);  // once is enough
}

void Core::check_order(const Access& access, Pipe pipe, const Site& site, bool accumulates) {
  if (!launch.options.check_order || launch.options.count_only) return;
  PipeState& on = state(pipe);
  Record record;
  record.site = launch.site_index(site);
  record.core = static_cast<uint16_t>(index);
  record.write = access.write;
  record.adds = access.adds;
  record.time = on.time;
  record.lane = static_cast<uint8_t>(pipe);
  if (pipe == Pipe::s && !access.write) {
    record.time = on.clock.own(scalar_load_lane) + 1;
    record.lane = scalar_load_lane;
    on.clock.raise_own(scalar_load_lane, record.time);
  }
  const auto pipe_of = [](const Record& r) {
    return r.lane == scalar_load_lane ? Pipe::s : static_cast<Pipe>(r.lane);
  };
  const auto visit = [&](Cell& cell, uint32_t mask) {
    record.mask = mask;
    cell.for_each([&](const Record& old) {
      if ((old.mask & mask) == 0 || (!old.write && !record.write)) return;
      if (old.adds && record.adds) return;
      const bool same_pipe = old.core == record.core && pipe_of(old) == pipe;
      // Instructions of a pipe begin in order; the scalar unit ends each before the next.
      if (same_pipe && (!old.write || pipe == Pipe::s || accumulates)) return;
      if (on.clock.of(index, old.core, old.lane) >= old.time) return;
      const Site& other = launch.site(old.site);
      launch.add_finding(
          Finding::Kind::order, site,
          fmt::format("{}: {} on {} {} {} at {:#x}, which {} at {} on {}{} {}; no flag, barrier or "
                      "queue orders the two ({})",
                      place(site.where), site.call, twin::name(pipe), verb(record.write),
                      twin::name(access.space), access.address, other.call, place(other.where),
                      twin::name(pipe_of(old)),
                      old.core == record.core ? "" : " of another core", verb(old.write), name()),
          &other);
    });
    cell.add(record);
  };
  if (access.space == Space::gm) {
    GlobalRange* range = launch.options.memory->find(access.address);
    launch.visit_global(*range, access.address, access.bytes, record, visit);
  } else {
    LocalMemory& in = memory(access.space);
    for_each_block(access.address, access.bytes,
                   [&](uint64_t block, uint32_t mask) { visit(in.cells[block], mask); });
  }
}

void Core::finish() {
  while (!idle()) {
    if (launch.stopping()) throw CoreStopped();
    if (advance_any()) continue;
    for (int p = 0; p < pipe_count; ++p) {
      if (pipes_[p].steps.empty()) continue;
      const Step& step = pipes_[p].steps.front();
      fail(Finding::Kind::deadlock, step.site,
           fmt::format("never ends: {}", blocked_flag()));
    }
  }
  for (int from = 0; from < pipe_count; ++from) {
    for (int to = 0; to < pipe_count; ++to) {
      for (int id = 0; id < 8; ++id) {
        const Flag& event = flags_[from][to][id];
        // A queue's last FreeTensor leaves its flag to the TPipe, which waits for it.
        if (event.set.empty() || event.allocated) continue;
        report(Finding::Kind::flag, event.last_set,
               fmt::format("sets {}, for which nothing waits; it is left to the next kernel",
                           flag_name(static_cast<Pipe>(from), static_cast<Pipe>(to), id)));
      }
    }
  }
  for (const auto& [number, line] : cache_) {
    if (line.written == 0) continue;
    report(Finding::Kind::coherence, line.last_write,
           "writes to the scalar unit's cache what never reaches memory; "
           "DataCacheCleanAndInvalid belongs after it");
  }
}

}  // namespace ridge::backend::ascend::twin
