#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "backend/ascend/twin/core.h"
#include "backend/ascend/twin/fibre.h"
#include "backend/ascend/twin/global_range.h"
#include "backend/ascend/twin/shared_rate.h"

namespace ridge::backend::ascend::twin {

// One launch while it runs: its cores, what they know of global memory and of each other.
class Launch {
 public:
  Launch(const KernelImage& kernel, uint32_t block_dim, std::span<const std::byte> arguments,
         const LaunchOptions& options);
  ~Launch();

  LaunchReport run();

  const KernelImage& kernel;
  const uint32_t block_dim;
  const LaunchOptions& options;
  std::mt19937_64 random;
  bool delayed() const { return options.schedule == Schedule::delayed; }

  // Faults. Each pair of places is reported once. Nobody runs on after max_findings.
  void add_finding(Finding::Kind kind, const Site& site, const std::string& message,
                   const Site* other = nullptr);
  bool stopping() const { return stopping_; }
  void stop() { stopping_ = true; }

  uint32_t site_index(const Site& site);
  const Site& site(uint32_t index) const { return sites_[index]; }

  // Calls `visit` for the block's records once something was written to the range; before, the
  // access is only noted.
  void visit_global(GlobalRange& range, uint64_t address, uint32_t bytes, const Record& record,
                    const std::function<void(Cell&, uint32_t mask)>& visit);

  static bool is_copy(Pipe pipe) {
    return pipe == Pipe::mte2 || pipe == Pipe::mte3 || pipe == Pipe::fix;
  }
  // When a copy ends that begins then and would take the core alone so long, in cycles: cores share
  // HBM and L2. Where they do not take turns, as if there were no others.
  double copy_end(double begin, double cycles, uint64_t hbm_bytes, uint64_t l2_bytes);
  // Lets cores run whose time is earlier, where they take turns.
  void take_turns();
  struct Span {
    bool on_vector_core;
    uint8_t sub_block;
    Pipe pipe;
    Site site;
    double begin, end;  // cycles
  };
  // For LaunchReport::timeline.
  void note_span(const Span& span);

  // Follows a transfer's lines of 512 bytes through L2, which keeps those that were used last.
  struct Noted {
    uint64_t hbm_bytes = 0;  // that a read has HBM give
    bool is_own = false;     // of what it reads this launch wrote something
  };
  Noted note_transfer(GlobalRange& range, uint64_t address, uint32_t bytes, bool write);

  // Lets other cores run until `ready`; `what` says what the core waits for.
  void wait(Core& core, std::function<bool()> ready, const Site& site, const std::string& what);

  int cores() const { return static_cast<int>(cores_.size()); }
  // `at`: cycles since the wave began.
  void cross_set(Core& from, int mode, int id, const Clock& clock, double at, const Site& site);
  bool cross_ready(const Core& core, int id) const;
  // Returns when the last of those that it waited for was set.
  double cross_take(Core& core, int id, Clock& clock);
  // Whether all blocks are on the chip at the same time, as what waits for all of them needs.
  bool one_wave() const;

 private:
  struct Runner {
    std::unique_ptr<Core> core;
    std::unique_ptr<Fibre> fibre;
    bool begun = false;
    std::function<bool()> ready;  // empty: may run
    Site waits_at;
    std::string waits_for;
  };
  // What came in by one cross-core flag of one core.
  struct Inbox {
    int mode = -1;
    struct Set {
      std::vector<Clock::Lanes> clocks;
      double at;
    };
    std::map<int, std::deque<Set>> from;  // by core
    Site last_set;
  };
  struct LoggedRead {
    uint64_t address;
    uint32_t bytes;
    Record record;
  };
  struct RangeState {
    bool written = false;
    std::vector<LoggedRead> reads;
    std::unordered_map<uint64_t, Cell> cells;  // by block
    struct Line {
      uint32_t used = 0;      // Launch::filled_ of its last use, and 1; 0: never
      bool is_dirty = false;  // HBM does not have what was written
      bool is_own = false;    // this launch wrote it
    };
    std::vector<Line> lines;  // of 512 bytes
  };

  void run_wave(uint32_t first_block, uint32_t blocks);
  void start(Core::Kind kind, uint32_t block, uint32_t sub_block);
  Runner* choose();
  bool advance_blocked();
  void report_deadlock();
  void cancel();
  void collect();
  std::vector<int> sources(const Core& core, int mode) const;

  std::vector<std::byte> arguments_;
  LaunchReport report_;
  bool stopping_ = false;
  std::vector<Site> sites_;
  std::map<std::tuple<const char*, int, const char*>, uint32_t> site_indices_;
  std::set<std::tuple<Finding::Kind, std::string, std::string>> seen_;
  std::vector<Runner> cores_;  // of this wave
  Runner* running_ = nullptr;
  std::map<std::pair<int, int>, Inbox> inboxes_;  // by core and flag
  std::unordered_map<GlobalRange*, RangeState> ranges_;
  void finish_report();
  void finish_timeline();

  // By physical core, all waves together.
  struct CoreTime {
    Core::Kind kind;
    std::array<double, pipe_count> pipes{};  // cycles that they were busy
    std::array<double, pipe_count> active{};
    double path = 0;                         // cycles from the first to the last
  };
  std::vector<CoreTime> core_times_;
  uint64_t moved_bytes_ = 0;  // between global memory and cores
  uint32_t filled_ = 0;       // lines that came into L2
  uint64_t hbm_lines_ = 0;    // that HBM gave or took
  SharedRate hbm_, l2_;       // of this wave
  std::vector<Span> spans_;
};

// Memories of cores that have ended, for the next ones.
std::array<LocalMemory, space_count> take_memories(Core::Kind kind);
void give_back_memories(Core::Kind kind, std::array<LocalMemory, space_count> memories);

}  // namespace ridge::backend::ascend::twin
