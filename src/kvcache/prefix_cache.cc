#include "kvcache/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace ridge::kvcache {

PrefixCache::PrefixCache(BlockPool& pool, int block_tokens, SpillStore* spill, int tokens_ahead)
    : pool_(pool), block_tokens_(block_tokens), tokens_ahead_(tokens_ahead), spill_(spill) {
  RIDGE_ASSERT(block_tokens >= 1 && tokens_ahead >= 0);
}

PrefixCache::~PrefixCache() {
  for (const Node& node : on_device_) pool_.release(*node.block);
  for (const Node& node : saved_) spill_->forget(node.saved);
}

int PrefixCache::extend(std::string_view root, std::span<const int32_t> tokens, int computed_tokens,
                        BlockTable& table, Place& place, int most_restores) {
  if (computed_tokens != place.blocks * block_tokens_) return computed_tokens;
  const int last = shareable_blocks(tokens);
  for (Node* node = find(root, place); node != nullptr && place.blocks < last; ++place.blocks) {
    Node* const child = child_of(*node, tokens, place.blocks);
    if (child == nullptr) break;
    if (!child->block && (most_restores-- <= 0 || !restore(*child))) break;
    if (place.blocks < static_cast<int>(table.blocks().size())) {
      table.replace(place.blocks, *child->block);
    } else {
      table.append_shared(*child->block);
    }
    place.node = node = child;
  }
  if (place.blocks > 0) touch(place.node);
  return place.blocks * block_tokens_;
}

bool PrefixCache::has_more_saved(std::string_view root, std::span<const int32_t> tokens,
                                 const Place& place) {
  if (place.blocks >= shareable_blocks(tokens)) return false;
  const Node* const node = find(root, place);
  const Node* const child = node == nullptr ? nullptr : child_of(*node, tokens, place.blocks);
  return child != nullptr && !child->block;
}

// All full ones but the last token's, whose tokens ahead are known.
int PrefixCache::shareable_blocks(std::span<const int32_t> tokens) const {
  return (static_cast<int>(tokens.size()) - std::max(1, tokens_ahead_)) / block_tokens_;
}

void PrefixCache::insert(std::string_view root, std::span<const int32_t> tokens,
                         int computed_tokens, BlockTable& table, Place& place) {
  const int known_tokens =
      std::min(computed_tokens, static_cast<int>(tokens.size()) - tokens_ahead_);
  const int full_blocks = known_tokens / block_tokens_;
  if (full_blocks <= place.blocks) return;
  if (roots_.find(root) == roots_.end()) roots_.try_emplace(std::string(root));
  Node* node = find(root, place);
  for (; place.blocks < full_blocks; ++place.blocks) {
    const BlockId block = table.blocks()[static_cast<size_t>(place.blocks)];
    Node* child = child_of(*node, tokens, place.blocks);
    if (child == nullptr) {
      child = &add_child(*node);
      hold(*child, block);
    } else if (!child->block) {
      spill_->forget(child->saved);
      hold(*child, block);
    } else if (*child->block != block) {
      table.replace(place.blocks, *child->block);
    }
    place.node = node = child;
  }
  touch(node);
}

int PrefixCache::reclaim(int blocks) {
  int reclaimed = 0;
  for (auto next = on_device_.begin(); next != on_device_.end() && reclaimed < blocks;) {
    Node& node = *next++;
    // Whoever holds a block holds those before it: what only the cache holds has no child in use.
    if (pool_.references(*node.block) > 1) continue;
    give_up(node);
    ++reclaimed;
  }
  return reclaimed;
}

PrefixCache::Node* PrefixCache::find(std::string_view root, const Place& place) {
  if (place.blocks > 0) return place.node;
  const auto found = roots_.find(root);
  return found == roots_.end() ? nullptr : &found->second;
}

PrefixCache::Node* PrefixCache::child_of(const Node& node, std::span<const int32_t> tokens,
                                         int index) {
  const auto first = tokens.begin() + static_cast<ptrdiff_t>(index) * block_tokens_;
  key_.assign(first, first + block_tokens_ + tokens_ahead_);
  const auto found = node.children.find(key_);
  return found == node.children.end() ? nullptr : found->second;
}

// With the tokens that were looked up last.
PrefixCache::Node& PrefixCache::add_child(Node& parent) {
  Nodes fresh(1);
  Node& node = fresh.front();
  node.parent = &parent;
  node.tokens = key_;
  node.self = fresh.begin();
  parent.children.emplace(key_, &node);
  saved_.splice(saved_.end(), fresh);
  return node;
}

// Only to be called where the parent has a block.
void PrefixCache::hold(Node& node, BlockId block) {
  pool_.share(block);
  pool_.set_cached(block, true);
  node.block = block;
  node.saved = -1;
  const bool is_first = node.parent->parent == nullptr;
  on_device_.splice(is_first ? on_device_.end() : node.parent->self, saved_, node.self);
}

bool PrefixCache::restore(Node& node) {
  // Out of reach of those who make room in the store.
  Nodes held_back;
  held_back.splice(held_back.end(), saved_, node.self);
  std::optional<BlockId> block = pool_.allocate();
  if (!block && reclaim(1) == 1) block = pool_.allocate();
  saved_.splice(saved_.end(), held_back);
  if (!block) return false;
  const bool is_loaded = spill_->load(node.saved, *block);
  if (is_loaded) {
    ++restores_total_;
    hold(node, *block);
  } else {
    node.saved = -1;
    remove(node);
  }
  pool_.release(*block);
  return is_loaded;
}

void PrefixCache::give_up(Node& node) {
  const int64_t saved = save(*node.block);
  pool_.set_cached(*node.block, false);
  pool_.release(*node.block);
  node.block.reset();
  node.saved = saved;
  saved_.splice(saved_.end(), on_device_, node.self);
  if (saved < 0) {
    remove(node);
  } else {
    ++spills_total_;
  }
}

// What was saved longest ago makes room.
int64_t PrefixCache::save(BlockId block) {
  if (spill_ == nullptr) return -1;
  int64_t saved = spill_->save(block);
  if (saved < 0 && !saved_.empty()) {
    remove(saved_.front());
    saved = spill_->save(block);
  }
  return saved;
}

// A node without a block, with all that hangs on it, none of which has a block either.
void PrefixCache::remove(Node& node) {
  Node* const parent = node.parent;
  parent->children.erase(node.tokens);
  Nodes doomed;
  doomed.splice(doomed.end(), saved_, node.self);
  for (const Node& next : doomed) {
    for (const auto& [tokens, child] : next.children) {
      doomed.splice(doomed.end(), saved_, child->self);
    }
    if (next.saved >= 0) spill_->forget(next.saved);
  }
  evictions_total_ += doomed.size();
  if (parent->parent == nullptr && parent->children.empty()) {
    std::erase_if(roots_, [&](const auto& root) { return &root.second == parent; });
  }
}

// With all above it, each after what hangs on it.
void PrefixCache::touch(Node* node) {
  for (; node->parent != nullptr; node = node->parent) {
    on_device_.splice(on_device_.end(), on_device_, node->self);
  }
}

}  // namespace ridge::kvcache
