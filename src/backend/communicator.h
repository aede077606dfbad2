#pragma once

#include <cstddef>
#include <span>

namespace ridge::backend {

// What the ranks of one group, each a process or a thread with a device of its own, tell each other.
// Every rank makes the same calls in the same order, from one thread. A rank that cannot be reached
// ends the others: no call returns without having done what it says.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;   // of [0, ranks())
  virtual int ranks() const = 0;  // at least 1
  // Every rank's bytes in the order of ranks, at every rank. `counts` has the size of each rank's,
  // which add up to all.size(); `own` is no part of `all`.
  virtual void all_gather(std::span<const std::byte> own, std::span<const size_t> counts,
                          std::span<std::byte> all) = 0;
  // Rank 0's bytes at every rank, as many at each. May be waited for idly, for any time.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
};

}  // namespace ridge::backend
