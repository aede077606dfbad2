#pragma once

#include <cstdint>
#include <limits>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvcache/block_pool.h"
#include "kvcache/block_table.h"

namespace ridge::kvcache {

// Where blocks go that the device has no room for.
class SpillStore {
 public:
  virtual ~SpillStore() = default;
  // Keeps a copy of the block's content; a number below 0 where there is no room or it failed.
  virtual int64_t save(BlockId block) = 0;
  // Fills `block` with what was saved and forgets it. False where it cannot be read any more.
  virtual bool load(int64_t saved, BlockId block) = 0;
  virtual void forget(int64_t saved) = 0;
};

// A tree of full blocks: a path from a root spells the tokens of a sequence, a block at each node.
// A later sequence that begins with the same tokens under the same root holds the same blocks, and
// computes only what follows. The cache is one holder of each block; those that nobody else holds
// it gives up, least recently used first and leaves before what they hang on.
//
// A root stands for whatever else a block depends on: the namespace of a group, an adapter. Nothing
// is shared between roots. Not thread-safe: the engine's thread owns it.
class PrefixCache {
  struct Node;

 public:
  // How far into the tree a sequence is known. Valid while the sequence holds the blocks on the
  // way.
  class Place {
   private:
    friend class PrefixCache;
    Node* node = nullptr;
    int blocks = 0;
  };

  // The pool, and the store where there is one, must outlive the cache. tokens_ahead: a block holds
  // what depends on so many tokens behind its own as well, and is shared only where they agree.
  PrefixCache(BlockPool& pool, int block_tokens, SpillStore* spill = nullptr,
              int tokens_ahead = 0);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  int tokens_ahead() const { return tokens_ahead_; }

  // Puts the blocks that the cache knows after the first `computed_tokens`, all of which `place`
  // knows, into `table`, but never the last token's: that one must be computed for its logits.
  // Returns the tokens that are computed then. Blocks come back from the store, at most so many.
  int extend(std::string_view root, std::span<const int32_t> tokens, int computed_tokens,
             BlockTable& table, Place& place, int most_restores = std::numeric_limits<int>::max());
  // Whether the store has the block that follows the place: `extend` would bring it back.
  bool has_more_saved(std::string_view root, std::span<const int32_t> tokens, const Place& place);

  // Remembers the full blocks among the first `computed_tokens`, as far as the tokens ahead are
  // known. Where the cache has such a block already, the table takes that one and frees its own.
  void insert(std::string_view root, std::span<const int32_t> tokens, int computed_tokens,
              BlockTable& table, Place& place);

  // Gives up to `blocks` blocks back to the pool; returns how many. With a store, their content is
  // kept there while it has room.
  int reclaim(int blocks);

  int blocks() const { return static_cast<int>(on_device_.size()); }
  int blocks_spilled() const { return static_cast<int>(saved_.size()); }
  uint64_t evictions_total() const { return evictions_total_; }  // blocks lost, spilled ones later
  uint64_t spills_total() const { return spills_total_; }
  uint64_t restores_total() const { return restores_total_; }  // blocks that came back

 private:
  using Tokens = std::vector<int32_t>;
  using Nodes = std::list<Node>;
  struct Node {
    Node* parent = nullptr;        // null at a root
    Tokens tokens;                 // of the block, and those ahead
    std::optional<BlockId> block;  // a node without one has no child with one
    int64_t saved = -1;            // in the store, where there is no block
    // Ordered, so that no choice of tokens can make a lookup slow.
    std::map<Tokens, Node*> children;
    Nodes::iterator self;
  };

  Node* find(std::string_view root, const Place& place);
  Node* child_of(const Node& node, std::span<const int32_t> tokens, int index);
  int shareable_blocks(std::span<const int32_t> tokens) const;
  Node& add_child(Node& parent);
  void hold(Node& node, BlockId block);
  bool restore(Node& node);
  void give_up(Node& node);
  int64_t save(BlockId block);
  void remove(Node& node);
  void touch(Node* node);

  BlockPool& pool_;
  const int block_tokens_;
  const int tokens_ahead_;
  SpillStore* const spill_;
  std::map<std::string, Node, std::less<>> roots_;
  // Least recently used first, and every node before its parent. Nodes move between the lists
  // without an allocation, so that no want of memory leaves a change half done.
  Nodes on_device_;
  Nodes saved_;
  Tokens key_;  // of the last lookup
  uint64_t evictions_total_ = 0;
  uint64_t spills_total_ = 0;
  uint64_t restores_total_ = 0;
};

}  // namespace ridge::kvcache
