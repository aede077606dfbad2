#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/strong_id.h"
#include "kvcache/block_table.h"

namespace ridge::engine {

// Ascends with the time of arrival.
using SequenceId = StrongId<struct SequenceTag, uint64_t>;

// One token timeline: a prompt and what was generated after it.
struct Sequence {
  enum class State : uint8_t {
    idle,     // unknown to the scheduler
    waiting,  // for blocks and a place; may hold blocks that it shares with others
    running,  // part of every step
  };

  Sequence(SequenceId id, int priority, std::vector<int32_t> tokens, kvcache::BlockTable blocks)
      : id(id), priority(priority), tokens(std::move(tokens)), blocks(std::move(blocks)) {}

  // Tokens whose keys and values are not in the cache yet; 1 while decoding.
  int pending_tokens() const { return static_cast<int>(tokens.size()) - computed_tokens; }

  const SequenceId id;
  const int priority;           // larger first
  std::vector<int32_t> tokens;  // prompt, then generated
  int computed_tokens = 0;      // the first of `tokens`, whose keys and values are in the cache
  kvcache::BlockTable blocks;
  State state = State::idle;  // written by the scheduler alone
};

// Whose turn comes first, and who keeps its blocks longer.
struct RanksBefore {
  bool operator()(const Sequence* a, const Sequence* b) const {
    return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
  }
};

}  // namespace ridge::engine
