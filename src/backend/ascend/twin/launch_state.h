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

  // Counts a transfer's lines of 512 bytes.
  void note_transfer(GlobalRange& range, uint64_t address, uint32_t bytes, bool write);

  // Lets other cores run until `ready`; `what` says what the core waits for.
  void wait(Core& core, std::function<bool()> ready, const Site& site, const std::string& what);

  int cores() const { return static_cast<int>(cores_.size()); }
  void cross_set(Core& from, int mode, int id, const Clock& clock, const Site& site);
  bool cross_ready(const Core& core, int id) const;
  void cross_take(Core& core, int id, Clock& clock);
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
    std::map<int, std::deque<std::vector<Clock::Lanes>>> from;  // by core
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
    enum class Line : uint8_t { untouched, read, written, written_and_read };
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
  std::vector<double> core_cycles_;  // of the busiest pipe, by physical core
  uint64_t moved_bytes_ = 0;  // between global memory and cores
};

// Memories of cores that have ended, for the next ones.
std::array<LocalMemory, space_count> take_memories(Core::Kind kind);
void give_back_memories(Core::Kind kind, std::array<LocalMemory, space_count> memories);

}  // namespace ridge::backend::ascend::twin
