#pragma once

#include <cstdint>
#include <string>

namespace ridge::backend {

enum class Toggle : uint8_t { automatic, on, off };

// What a user may choose; a back end ignores what it has no use for.
struct DeviceOptions {
  int threads = 0;  // 0: as many as this process may use
  std::string isa;  // "" the best that the machine has, else a lower one ("avx2")
  // Each thread on a processor of its own. Automatically where the threads take all processors that
  // this process may use and these have several last-level caches; elsewhere a pinned thread gains
  // nothing, and it suffers where somebody else wants its processor.
  Toggle pin_threads = Toggle::automatic;
  // While they wait for each other. Off for tests, of which as many run as there are processors:
  // each would take from the others what it waits for.
  bool threads_spin = true;
  bool threads_in_turns = false;  // another number of them for each step, for tests
  // For weights and KV caches. Automatically where the system gives them to who asks.
  Toggle huge_pages = Toggle::automatic;
  bool allow_emulation = false;  // tests only: `isa` may be one of device_emulated_isas
};

}  // namespace ridge::backend
