#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <source_location>
#include <string>
#include <vector>

#include "backend/ascend/twin/launch.h"
#include "backend/ascend/twin/numbers.h"
#include "backend/ascend/twin/order.h"

// One core of the chip: its local memories, its pipes and the flags between them. What the AscendC
// interface (include/) says becomes an Instruction; a core queues it on its pipe, runs it when it
// may, and checks what it touches.
namespace AscendC {
class TPipe;
}

namespace ridge::backend::ascend::twin {

class Launch;

// Steps that a pipe's queue holds before the scalar unit must wait.
inline constexpr size_t queue_depth = 32;

enum class Space : uint8_t { gm, ub, l1, l0a, l0b, l0c, bias_table, fixpipe };
inline constexpr int space_count = 8;
std::string_view name(Space space);      // "UB"
uint32_t capacity_of(Space space);       // usable bytes; gm: 0
uint32_t alignment_of(Space space);      // of addresses in bytes; gm: 1

inline constexpr uint32_t block_bytes = 32;

// Calls visit(block, mask) for each block that the bytes touch; the mask says which of its bytes.
template <typename Visit>
void for_each_block(uint64_t address, uint32_t bytes, Visit visit) {
  const uint64_t end = address + bytes;
  while (address < end) {
    const uint64_t block = address / block_bytes;
    const uint64_t stop = std::min(end, (block + 1) * block_bytes);
    const auto first = static_cast<uint32_t>(address % block_bytes);
    const auto count = static_cast<uint32_t>(stop - address);
    const uint32_t mask = count == block_bytes ? ~0u : ((1u << count) - 1) << first;
    visit(block, mask);
    address = stop;
  }
}

// A call in a kernel.
struct Site {
  const char* call = "";
  std::source_location where;
};
std::string place(const std::source_location& where);  // "rms_norm.cc:57"
const char* verb(bool write);                          // "writes" or "reads"

// A tensor without its element type: where it begins and the buffer that it may not leave.
struct Operand {
  Space space = Space::gm;
  Type type = Type::u8;
  uint64_t address = 0;
  uint64_t begin = 0;  // of the buffer
  uint64_t end = 0;

  // Further on by `count` elements.
  Operand at(uint64_t count) const {
    Operand moved = *this;
    moved.address += bytes_of(type, count);
    return moved;
  }
};

// A local memory and what is known of its bytes.
struct LocalMemory {
  std::vector<std::byte> data;
  std::vector<uint8_t> defined;  // 1 for each byte that was written
  std::vector<Cell> cells;       // for each block
  uint32_t touched = 0;          // bytes from the beginning that may differ from a fresh memory

  void reset(uint32_t capacity);
};

enum class Undefined : uint8_t {
  report,     // as an operand of arithmetic, or to global memory
  propagate,  // a move within the chip, which keeps undefined bytes undefined
};

// Contiguous bytes that an instruction touches.
struct Access {
  Space space;
  bool write;
  Undefined undefined;
  uint64_t address;
  uint32_t bytes;
  std::byte* data;
  uint8_t* defined;
  bool adds = false;  // to what is there
};

// An instruction while it is put together: the pipe, what it reads and writes, what it costs.
class Instruction {
 public:
  Instruction(Pipe pipe, Site site) : pipe(pipe), site(site) {}

  // Bytes [offset, offset + bytes) of an operand. Reports what leaves the buffer. The pointers hold
  // until the end of the launch.
  Access read(const Operand& from, uint64_t offset, uint32_t bytes,
              Undefined undefined = Undefined::report);
  // With Undefined::propagate the closure writes `defined` itself.
  Access write(const Operand& to, uint64_t offset, uint32_t bytes,
               Undefined undefined = Undefined::report);
  // A write that adds to what is there.
  Access add(const Operand& to, uint64_t offset, uint32_t bytes);
  // Reports an operand whose address is not a multiple of `bytes`.
  void align(const Operand& operand, uint32_t bytes) const;
  void align(const Operand& operand) const { align(operand, alignment_of(operand.space)); }
  // Reports a wrong parameter unless `right`.
  void require(bool right, const std::string& message) const;

  // Gives it to the current core; `run` does the work on the bytes, later.
  void issue(std::function<void()> run) &&;

  Pipe pipe;
  Site site;
  std::vector<Access> accesses;
  // Mmads into the same accumulators may follow each other without a barrier.
  bool accumulates = false;
  PipeCounters counters;
  // Of a copy: what HBM gives for it, and what it asks L2 for, which is more than its bytes where
  // lines are cut.
  uint64_t hbm_bytes = 0, l2_bytes = 0;
  bool reads_own = false;  // what its launch wrote

 private:
  Access touch(const Operand& operand, uint64_t offset, uint32_t bytes, bool write,
               Undefined undefined, bool adds = false);
};

// Ends the run of a core: a fault was reported, or another core had one.
struct CoreStopped : std::exception {
  const char* what() const noexcept override { return "the core was stopped"; }
};

class Core {
 public:
  enum class Kind : uint8_t { cube, vector };

  Core(Launch& launch, int index, Kind kind, uint32_t block, uint32_t sub_block);

  // The core whose kernel calls; only while a kernel runs.
  static Core& current();
  static void set_current(Core* core);

  Launch& launch;
  const int index;  // in its wave
  const Kind kind;
  const uint32_t block;      // block of the launch
  const uint32_t sub_block;  // 0 or 1: which AIV of the block
  uint32_t block_index() const;  // as GetBlockIdx: a mixed kernel's AIVs count by themselves
  std::string name() const;      // "AIV 3"

  // What the scalar unit does.
  void issue(Instruction&& instruction, std::function<void()> run);
  void set_flag(Pipe from, Pipe to, int id, Site site);
  void wait_flag(Pipe from, Pipe to, int id, Site site);
  void barrier(Pipe pipe, Site site);
  void barrier_all(Site site);
  void cross_set(Pipe pipe, int mode, int id, Site site);
  void cross_wait(int id, Site site);
  void sync_all(bool vector_only, Site site);
  // Bytes of local memory, read or written at once. With count_only, those at a place outside, which is computed
  // from what nothing computed, are the first.
  void scalar_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site);
  void scalar_write(const Operand& to, uint64_t offset, uint32_t bytes, const void* from,
                    Site site);
  // The same of global memory, by way of the scalar unit's cache.
  void cached_read(const Operand& from, uint64_t offset, uint32_t bytes, void* to, Site site);
  void cached_write(const Operand& to, uint64_t offset, uint32_t bytes, const void* from,
                    Site site);
  void clean_cache(const Operand& at, bool whole, Site site);

  // Flag ids that nothing uses; -1 where none is left.
  int allocate_flag(Pipe from, Pipe to);
  void release_flag(Pipe from, Pipe to, int id);
  int free_flag(Pipe from, Pipe to) const;

  // The next `bytes` of a memory, for TPipe. Reports what does not fit.
  uint32_t allocate_buffer(Space space, uint32_t bytes, Site site);
  void reset_buffers() { buffers_end_.fill(0); }

  // The end of the kernel: all pipes run empty, then leftovers are reported.
  void finish();

  // Runs something that is queued, if something may run.
  bool advance_any();
  bool idle() const;

  [[noreturn]] void fail(Finding::Kind kind, const Site& site, const std::string& message);
  void report(Finding::Kind kind, const Site& site, const std::string& message);
  AscendC::TPipe* tpipe = nullptr;  // the kernel's
  bool unwinding = false;  // objects of the kernel are destroyed because of a fault

  LocalMemory& memory(Space space) { return memories_[static_cast<int>(space)]; }
  bool has(Space space) const;

  // Of stores to global memory: add to what is there.
  bool atomic_add = false;

  std::array<PipeCounters, pipe_count> counters;
  // When the last pipe was done, in cycles since the wave began.
  double ended_at() const;
  double active(Pipe pipe) const { return pipes_[static_cast<int>(pipe)].active; }
  // The scalar unit's time, for what comes in from other cores.
  double scalar_now() const { return pipes_[static_cast<int>(Pipe::s)].now; }
  void scalar_waits_until(double cycles);
  // About when the next copy begins.
  double copies_at() const {
    return std::max(scalar_now(), pipes_[static_cast<int>(Pipe::mte2)].now);
  }

 private:
  const bool orders_;  // whether clocks are kept: nothing looks at them where instructions are counted
  // What a flag hands over: what its setter knew, and when it was done, in cycles.
  struct Published {
    Clock clock;
    double at = 0;
  };
  struct Step {
    enum class Kind : uint8_t { instruction, set_flag, wait_flag, barrier, cross_set };
    Kind kind;
    Site site;
    Clock issued;  // what the scalar unit knew
    // Of flags, the other pipe; of cross-core flags, the mode.
    Pipe other = Pipe::s;
    int mode = 0;
    int id = 0;
    std::vector<Access> accesses;
    std::function<void()> run;
    bool accumulates = false;
    double cycles = 0;     // of an instruction, for this core alone
    double issued_at = 0;  // when the scalar unit gave it to the pipe
    uint64_t hbm_bytes = 0, l2_bytes = 0;  // of a copy: what it asks of them
  };
  struct Flag {
    std::vector<Published> set;  // in order, by those that nobody waited for yet
    uint32_t sets_issued = 0;
    uint32_t waits_issued = 0;
    Site last_set;
    bool allocated = false;
  };
  struct PipeState {
    std::deque<Step> steps;
    Clock clock;
    uint32_t time = 0;
    double active = 0;  // cycles of its instructions, waiting for memory included
    double now = 0;     // cycles since the wave began at which it has done what it was given so far
    std::array<double, queue_depth> begun{};  // when its last steps left the queue, in turn
    uint32_t steps_run = 0, steps_given = 0;
  };
  struct CacheLine {
    std::array<std::byte, 64> bytes;
    uint64_t written = 0;  // mask of bytes that memory does not have
    Site last_write;
  };

  PipeState& state(Pipe pipe) { return pipes_[static_cast<int>(pipe)]; }
  Flag& flag(Pipe from, Pipe to, int id) {
    return flags_[static_cast<int>(from)][static_cast<int>(to)][id];
  }
  void push(Pipe pipe, Step step);
  void run_eagerly();
  // Runs one step of `pipe`, or of a pipe that it waits for. False where nothing can run.
  bool advance(Pipe pipe, uint32_t visited = 0);
  void run_front(Pipe pipe);
  bool reorder(PipeState& pipe);
  void run_instruction(Pipe pipe, const Step& step);
  void note_span(Pipe pipe, const Step& step, double begin, double end);
  void check_defined(const Access& access, const Site& site);
  // Does nothing where the launch does not look at the order.
  void check_order(const Access& access, Pipe pipe, const Site& site, bool accumulates);
  void drain(Site site);
  void publish_flag(Pipe from, Pipe to, int id);
  std::string blocked_flag() const;
  void count_scalar();
  CacheLine& cache_line(uint64_t address);

  std::array<PipeState, pipe_count> pipes_;
  std::array<std::array<std::array<Flag, 8>, pipe_count>, pipe_count> flags_;
  std::array<LocalMemory, space_count> memories_;
  std::array<uint32_t, space_count> buffers_end_{};
  std::map<uint64_t, CacheLine> cache_;
};

}  // namespace ridge::backend::ascend::twin
