#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/strong_id.h"
#include "engine/priority.h"
#include "kvcache/block_table.h"
#include "kvcache/prefix_cache.h"

namespace ridge::engine {

// Ascends with the time of arrival.
using SequenceId = StrongId<struct SequenceTag, uint64_t>;

// Whose turn a sequence takes, and what it may share.
struct SequenceOwner {
  int priority = 0;   // larger first
  std::string group;  // those who share a turn: a tenant, to the engine a name
  double weight = 1;  // of the group's share, above 0
  std::optional<Clock::TimePoint> deadline;  // the earlier one first within a group
  std::string cache_root;                    // sequences of one root share prefixes

  bool is_background() const { return priority <= background_priority; }
};

// One token timeline: a prompt and what was generated after it.
struct Sequence {
  enum class State : uint8_t {
    idle,     // unknown to the scheduler
    waiting,  // for blocks and a place; holds none
    running,  // has a place; part of every step while it decodes
  };

  Sequence(SequenceId id, SequenceOwner owner, std::vector<int32_t> tokens,
           kvcache::BlockTable blocks)
      : id(id), owner(std::move(owner)), tokens(std::move(tokens)), blocks(std::move(blocks)) {}

  // Tokens whose keys and values are not in the cache yet; 1 while decoding.
  int pending_tokens() const { return static_cast<int>(tokens.size()) - computed_tokens; }

  void release_blocks() {
    blocks.clear();
    place = {};
    computed_tokens = 0;
    restored_blocks = 0;
  }

  const SequenceId id;
  const SequenceOwner owner;
  std::vector<int32_t> tokens;  // prompt, then generated
  int computed_tokens = 0;      // the first of `tokens`, whose keys and values are in the cache
  // Guesses of what follows `tokens`, to be checked in the next step; the scheduler drops those
  // that do not fit it.
  std::vector<int32_t> draft;
  // Of which tokens of the prompt there are outputs: of every one, so that nothing may come from
  // the prefix cache, or of the last.
  bool wants_all_outputs = false;
  int adapter = -1;             // of the engine's; -1: none
  bool outputs_hidden = false;  // outputs are hidden states, which a step has room for
  bool is_shareable = true;     // its blocks may go to the prefix cache
  // What may follow it is not known yet: it has no part in steps, and keeps its place and blocks.
  bool sits_out = false;
  kvcache::BlockTable blocks;

  // Written by the scheduler alone.
  State state = State::idle;
  kvcache::PrefixCache::Place place;
  int cached_tokens = -1;   // found in the prefix cache before any was computed; -1 until then
  int restored_blocks = 0;  // of those it holds, that came back from where they were spilled to
};

}  // namespace ridge::engine
