#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/ascend/twin/launch.h"

// What is ordered after what: vector clocks of the pipes (Fidge 1988, Mattern 1989), and for each
// 32 bytes of memory the accesses that a later one must be ordered after.
namespace ridge::backend::ascend::twin {

// Up to which count of each pipe everything is known to be complete. Each pipe counts what it has
// run. What the scalar unit knows goes with every instruction that it issues. That includes its loads,
// which are complete when it goes on and count by themselves; its stores are known only by a flag.
inline constexpr int scalar_load_lane = pipe_count;
inline constexpr int clock_lanes = pipe_count + 1;
class Clock {
 public:
  using Lanes = std::array<uint32_t, clock_lanes>;

  uint32_t own(int lane) const { return own_[lane]; }
  void raise_own(int lane, uint32_t count) { own_[lane] = std::max(own_[lane], count); }
  // `core` is the one to which this clock belongs.
  uint32_t of(int core, int other_core, int lane) const;

  // Of the same core.
  void join(const Clock& other);
  // Of any core. `core` is the one to which this clock belongs.
  void join_all(int core, const std::vector<Lanes>& others);
  // As seen from all cores.
  std::vector<Lanes> publish(int core, int cores) const;

 private:
  Lanes own_{};
  std::shared_ptr<const std::vector<Lanes>> others_;  // by core; null while nothing is known
};

// One access to some bytes of a 32-byte block.
struct Record {
  uint32_t mask = 0;   // of the bytes
  uint32_t time = 0;   // the pipe's count
  uint32_t site = 0;   // index of the call, in the launch
  uint16_t core = 0;
  uint8_t lane = 0;    // the pipe, or scalar_load_lane
  bool write = false;
  bool adds = false;  // a store that adds to what is there; among themselves they need no order
};

// The accesses to one block that still matter.
class Cell {
 public:
  template <typename Visit>
  void for_each(Visit visit) {
    for (int i = 0; i < count_; ++i) visit(first_[i]);
    for (const Record& record : more_) visit(record);
  }
  // Adds the record; a write takes away what it covers, a read the same pipe's reads that it covers.
  void add(const Record& record);
  void clear() {
    count_ = 0;
    more_.clear();
  }

 private:
  std::array<Record, 2> first_;
  int count_ = 0;
  std::vector<Record> more_;
};

}  // namespace ridge::backend::ascend::twin
