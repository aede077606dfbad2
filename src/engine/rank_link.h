#pragma once

#include <cstddef>
#include <span>

namespace ridge::engine {

// What lies between the engine and the ranks that compute for it: a stream of bytes to rank 0 and one
// back, each used by one thread at a time.
class RankLink {
 public:
  virtual ~RankLink() = default;
  // All of the bytes. Both throw unavailable, saying which rank has ended, once one has.
  virtual void send(std::span<const std::byte> bytes) = 0;
  virtual void receive(std::span<std::byte> bytes) = 0;
  // Nothing more is sent or received: at the other end `receive` throws from here on, and that ranks
  // end is no failure.
  virtual void close() = 0;
};

}  // namespace ridge::engine
