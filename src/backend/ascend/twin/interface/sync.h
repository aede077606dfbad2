#pragma once

#include <string>

#include "backend/ascend/twin/interface/types.h"

// Flags between the pipes of a core, barriers, and flags between cores.
namespace AscendC {

struct EventPipes {
  twin::Pipe from;
  twin::Pipe to;
};

constexpr EventPipes pipes_of(HardEvent event) {
  using enum HardEvent;
  using enum twin::Pipe;
  switch (event) {
    case MTE2_MTE1: return {mte2, mte1};
    case MTE1_MTE2: return {mte1, mte2};
    case MTE1_M: return {mte1, m};
    case M_MTE1: return {m, mte1};
    case MTE2_V: return {mte2, twin::Pipe::v};
    case V_MTE2: return {v, mte2};
    case MTE3_V: return {mte3, v};
    case V_MTE3: return {v, mte3};
    case M_V: return {m, v};
    case V_M: return {v, m};
    case V_V: return {v, v};
    case MTE3_MTE1: return {mte3, mte1};
    case MTE1_MTE3: return {mte1, mte3};
    case MTE1_V: return {mte1, v};
    case MTE2_M: return {mte2, m};
    case M_MTE2: return {m, mte2};
    case V_MTE1: return {v, mte1};
    case M_FIX: return {m, fix};
    case FIX_M: return {fix, m};
    case MTE3_MTE2: return {mte3, mte2};
    case MTE2_MTE3: return {mte2, mte3};
    case S_V: return {s, v};
    case V_S: return {v, s};
    case S_MTE2: return {s, mte2};
    case MTE2_S: return {mte2, s};
    case S_MTE3: return {s, mte3};
    case MTE3_S: return {mte3, s};
    case MTE2_FIX: return {mte2, fix};
    case FIX_MTE2: return {fix, mte2};
    case FIX_S: return {fix, s};
    case M_S: return {m, s};
    case FIX_MTE3: return {fix, mte3};
    case MTE1_FIX: return {mte1, fix};
    case FIX_MTE1: return {fix, mte1};
    case FIX_FIX: return {fix, fix};
  }
  return {s, s};
}

constexpr twin::Pipe pipe_of(pipe_t pipe) { return static_cast<twin::Pipe>(pipe); }

template <HardEvent event>
void SetFlag(int32_t id, Where where = Where::current()) {
  constexpr EventPipes pipes = pipes_of(event);
  twin::Core::current().set_flag(pipes.from, pipes.to, id, {"SetFlag", where});
}
template <HardEvent event>
void WaitFlag(int32_t id, Where where = Where::current()) {
  constexpr EventPipes pipes = pipes_of(event);
  twin::Core::current().wait_flag(pipes.from, pipes.to, id, {"WaitFlag", where});
}

template <pipe_t pipe>
void PipeBarrier(Where where = Where::current()) {
  if constexpr (pipe == PIPE_ALL) {
    twin::Core::current().barrier_all({"PipeBarrier", where});
  } else if constexpr (pipe != PIPE_S) {
    twin::Core::current().barrier(pipe_of(pipe), {"PipeBarrier", where});
  }
}

// Mode 0: all cores of one kind; 1: the two vector cores of a block; 2: the cube core of a block and
// its vector cores. Set once `pipe` has done what was issued to it before.
template <uint8_t mode, pipe_t pipe>
void CrossCoreSetFlag(uint16_t id, Where where = Where::current()) {
  twin::Core::current().cross_set(pipe_of(pipe), mode, id, {"CrossCoreSetFlag", where});
}
template <uint8_t mode = 0, pipe_t pipe = PIPE_S>
void CrossCoreWaitFlag(uint16_t id, Where where = Where::current()) {
  twin::Core::current().cross_wait(id, {"CrossCoreWaitFlag", where});
}
template <bool vector_only = true>
void SyncAll(Where where = Where::current()) {
  twin::Core::current().sync_all(vector_only, {"SyncAll", where});
}

}  // namespace AscendC
