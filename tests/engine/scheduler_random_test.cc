// Random arrivals, endings and cancellations,
// with the scheduler's promises checked after every step.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#include "engine/scheduler_fixture.h"

namespace ridge::engine::scheduler_random_test {
namespace {

// Of so many blocks, with the content that they had when they were saved.
class ContentStore final : public kvcache::SpillStore {
 public:
  using Contents = std::map<int32_t, std::vector<uint64_t>>;  // by block or by what was saved

  ContentStore(int blocks, Contents& of_blocks) : blocks_(blocks), of_blocks_(of_blocks) {}

  int64_t save(kvcache::BlockId block) override {
    if (static_cast<int>(saved_.size()) >= blocks_) return -1;
    saved_[next_] = of_blocks_[block.value];
    return next_++;
  }
  // What cannot be read is left as it was.
  bool load(int64_t saved, kvcache::BlockId block) override {
    const auto found = saved_.find(static_cast<int32_t>(saved));
    EXPECT_NE(found, saved_.end()) << "what was forgotten is asked for";
    const bool is_read = ++loads_ % 10 != 0;
    of_blocks_[block.value] = is_read ? found->second : std::vector<uint64_t>();
    saved_.erase(found);
    return is_read;
  }
  void forget(int64_t saved) override {
    EXPECT_EQ(saved_.erase(static_cast<int32_t>(saved)), 1u);
  }
  int size() const { return static_cast<int>(saved_.size()); }

 private:
  const int blocks_;
  Contents& of_blocks_;
  Contents saved_;
  int32_t next_ = 0;
  int loads_ = 0;
};

class RandomRun {
 public:
  explicit RandomRun(uint32_t seed)
      : random_(seed), store_(pick(0, 30), content_), f_(pick(8, 40), limits(), &store_) {
    longest_ = f_.pool.blocks_total() * f_.limits.block_tokens;
  }

  void run() {
    const int arrivals = pick(3, 20);
    int arrived = 0;
    for (int step = 0; arrived < arrivals || !live_.empty(); ++step) {
      ASSERT_LT(step, 20000) << "no progress";
      while (arrived < arrivals && pick(0, 2) == 0) {
        arrive();
        ++arrived;
      }
      if (!live_.empty() && pick(0, 15) == 0) end(random_live());
      draft();
      std::set<const Sequence*> decoding;
      for (const auto& [s, end] : live_) {
        if (s->state == Sequence::State::running && s->pending_tokens() == 1) decoding.insert(s);
      }
      const int budget = pick(1, 40);
      const uint64_t preempted = f_.scheduler.preemptions_total();
      const uint64_t restored_before = f_.cache.restores_total();
      const Batch batch = f_.scheduler.schedule(budget);
      // Those that were displaced just now may be computed again, as prompts.
      if (f_.scheduler.preemptions_total() > preempted) decoding.clear();
      check(batch, decoding, budget, static_cast<int>(f_.cache.restores_total() - restored_before));
      if (testing::Test::HasFatalFailure()) return;
      compute(batch);
      f_.scheduler.complete(batch);
      grow(batch);
      ++steps;
    }
    EXPECT_EQ(f_.pool.blocks_available(), f_.pool.blocks_total()) << "a block leaked";
    EXPECT_EQ(f_.scheduler.running() + f_.scheduler.waiting(), 0);
    preemptions = f_.scheduler.preemptions_total();
    spilled = f_.cache.spills_total();
    restored = f_.cache.restores_total();
  }

  uint64_t steps = 0;
  uint64_t preemptions = 0;
  uint32_t forks = 0;
  uint32_t copies = 0;
  uint32_t accepted = 0;
  uint64_t hits = 0;
  uint64_t paced_steps = 0;
  uint64_t spilled = 0;   // blocks
  uint64_t restored = 0;  // of these

 private:
  int pick(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint32_t>(high - low + 1));
  }
  SchedulerLimits limits() {
    const int max_sequences = pick(1, 6);
    return {.step_tokens = max_sequences + pick(0, 40),
            .max_sequences = max_sequences,
            .block_tokens = 1 << pick(0, 4),
            .outputs = max_sequences + pick(0, 10)};
  }
  Sequence* random_live() {
    auto it = live_.begin();
    std::advance(it, pick(0, static_cast<int>(live_.size()) - 1));
    return it->first;
  }

  SequenceOwner owner() {
    static const char* const groups[] = {"a", "b", "c"};
    const int group = pick(0, 2);
    SequenceOwner owner;
    owner.priority = pick(0, 9) == 0;
    owner.group = groups[group];
    owner.weight = 1 + group;
    owner.cache_root = pick(0, 1) == 0 ? "x" : "y";
    if (pick(0, 4) == 0) owner.deadline = Clock::TimePoint() + std::chrono::seconds(pick(0, 9));
    return owner;
  }
  // Few different tokens, so that prompts begin alike.
  int32_t token() { return pick(0, 8) == 0; }
  void arrive() {
    std::vector<int32_t> prompt(static_cast<size_t>(pick(1, std::max(1, longest_ - 1))));
    for (int32_t& each : prompt) each = token();
    Sequence& sequence = f_.make(prompt, owner());
    sequence.wants_all_outputs = pick(0, 9) == 0;
    f_.scheduler.add(sequence);
    live_[&sequence] = pick(static_cast<int>(prompt.size()) + 1, longest_ + 1);
  }
  // As choices of one prompt do it.
  void fork(Sequence& leader) {
    Sequence& sibling = f_.make(leader.tokens, leader.owner);
    sibling.tokens.push_back(token());
    if (const auto copy = f_.scheduler.fork(leader, sibling)) {
      content_[copy->to.value] = content_[copy->from.value];
      ++copies;
    }
    live_[&sibling] = pick(static_cast<int>(sibling.tokens.size()) + 1, longest_ + 1);
  }
  void end(Sequence* sequence) {
    f_.scheduler.remove(*sequence);
    EXPECT_TRUE(sequence->blocks.blocks().empty());
    live_.erase(sequence);
  }
  void draft() {
    for (auto& [s, end] : live_) {
      s->draft.clear();
      if (s->state != Sequence::State::running || s->pending_tokens() != 1) continue;
      const int room = std::min(end, longest_) - static_cast<int>(s->tokens.size());
      for (int i = pick(-4, 4); i > 0 && static_cast<int>(s->draft.size()) < room; --i) {
        s->draft.push_back(token());
      }
    }
  }
  // Writes what the step would write: the block's cells know their tokens and all before them.
  void compute(const Batch& batch) {
    for (const Chunk& chunk : batch) {
      std::vector<int32_t> tokens = chunk.sequence->tokens;
      tokens.insert(tokens.end(), chunk.sequence->draft.begin(), chunk.sequence->draft.end());
      uint64_t hash = path_of(*chunk.sequence, tokens, chunk.first);
      for (int i = chunk.first; i < chunk.first + chunk.count; ++i) {
        hash = next_hash(hash, tokens[static_cast<size_t>(i)]);
        cell(*chunk.sequence, i) = hash;
      }
    }
  }
  static uint64_t next_hash(uint64_t hash, int32_t token) {
    return (hash ^ static_cast<uint64_t>(token + 1)) * 1099511628211u;
  }
  static uint64_t path_of(const Sequence& s, const std::vector<int32_t>& tokens, int count) {
    uint64_t hash = s.owner.cache_root == "x" ? 17 : 18;
    for (int i = 0; i < count; ++i) hash = next_hash(hash, tokens[static_cast<size_t>(i)]);
    return hash;
  }
  uint64_t& cell(const Sequence& s, int position) {
    const int32_t slot = s.blocks.slot(position);
    std::vector<uint64_t>& cells = content_[slot / f_.limits.block_tokens];
    cells.resize(16);
    return cells[static_cast<size_t>(slot % f_.limits.block_tokens)];
  }
  void grow(const Batch& batch) {
    for (const Chunk& chunk : batch) {
      if (!chunk.reaches_end) continue;
      Sequence& sequence = *chunk.sequence;
      const int end_tokens = live_.at(&sequence);
      const bool is_alone = chunk.drafts == 0;
      for (int32_t guess : std::vector<int32_t>(sequence.draft)) {
        if (guess != 0 || static_cast<int>(sequence.tokens.size()) + 1 >= end_tokens) break;
        f_.scheduler.accept_draft(sequence, guess);
        ++accepted;
      }
      if (is_alone && forks < 5 && pick(0, 20) == 0 &&
          static_cast<int>(sequence.tokens.size()) < longest_) {
        ++forks;
        fork(sequence);
      }
      sequence.tokens.push_back(token());
      if (static_cast<int>(sequence.tokens.size()) >= end_tokens) end(&sequence);
    }
  }

  void check(const Batch& batch, const std::set<const Sequence*>& decoding, int budget,
             int restored_blocks) {
    int tokens = 0;
    int prompt_tokens = 0;
    bool has_decoding = false;
    int outputs = 0;
    std::set<Sequence*> in_batch;
    for (const Chunk& chunk : batch) {
      Sequence& s = *chunk.sequence;
      ASSERT_TRUE(live_.count(&s)) << "an ended sequence was scheduled";
      ASSERT_TRUE(in_batch.insert(&s).second);
      ASSERT_EQ(s.state, Sequence::State::running);
      ASSERT_EQ(chunk.first, s.computed_tokens);
      ASSERT_GE(chunk.count, 1);
      ASSERT_LE(chunk.count - chunk.drafts, s.pending_tokens());
      ASSERT_EQ(chunk.reaches_end, chunk.count - chunk.drafts == s.pending_tokens());
      ASSERT_EQ(chunk.drafts, static_cast<int>(s.draft.size()));
      ASSERT_EQ(chunk.outputs, s.wants_all_outputs && s.pending_tokens() > 1 ? chunk.count
                               : chunk.reaches_end                           ? 1 + chunk.drafts
                                                                             : 0);
      ASSERT_GE(s.blocks.capacity_tokens(), chunk.first + chunk.count) << "no block for its keys";
      tokens += chunk.count;
      outputs += chunk.outputs;
      if (decoding.count(&s)) {
        has_decoding = true;
      } else {
        prompt_tokens += chunk.count;
      }
      if (begun_.insert(&s).second) {
        ASSERT_EQ(s.cached_tokens, chunk.first) << "of what no step computed";
      }
      if (s.wants_all_outputs && s.cached_tokens > 0) ADD_FAILURE() << "logits were lost";
      hits += s.cached_tokens > 0;
    }
    ASSERT_LE(tokens, f_.limits.step_tokens);
    ASSERT_LE(outputs, f_.limits.outputs);
    if (has_decoding) {
      ASSERT_LE(prompt_tokens, budget) << "prompts hold up those that decode";
      // The last block that comes back may be one in part.
      const int restored_tokens = restored_blocks * f_.limits.block_tokens;
      ASSERT_LT(prompt_tokens + restored_tokens, budget + f_.limits.block_tokens)
          << "blocks that come back do";
      ++paced_steps;
    }
    ASSERT_EQ(f_.cache.blocks_spilled(), store_.size());
    ASSERT_LE(f_.scheduler.running(), f_.limits.max_sequences);
    ASSERT_EQ(f_.scheduler.running() + f_.scheduler.waiting(), static_cast<int>(live_.size()));
    ASSERT_EQ(batch.empty(), live_.empty());
    std::set<int32_t> held;
    for (auto& [s, end] : live_) {
      if (s->state == Sequence::State::running && s->pending_tokens() == 1) {
        // The last blocks of a prompt may come back in a step that then has time for no more.
        const bool came_back = restored_blocks > 0 && s->restored_blocks > 0 && !decoding.count(s);
        ASSERT_TRUE(in_batch.count(s) || came_back) << "a decoding sequence missed a step";
      }
      ASSERT_EQ(s->state == Sequence::State::waiting, s->blocks.blocks().empty());
      for (kvcache::BlockId block : s->blocks.blocks()) held.insert(block.value);
      // Blocks that a step writes are its sequence's own.
      for (size_t i = static_cast<size_t>(s->computed_tokens / f_.limits.block_tokens);
           i < s->blocks.blocks().size(); ++i) {
        ASSERT_EQ(f_.pool.references(s->blocks.blocks()[i]), 1);
      }
      uint64_t hash = path_of(*s, s->tokens, 0);
      for (int i = 0; i < s->computed_tokens; ++i) {
        hash = next_hash(hash, s->tokens[static_cast<size_t>(i)]);
        ASSERT_EQ(cell(*s, i), hash) << "the cache holds another context at " << i;
      }
    }
    ASSERT_EQ(f_.pool.blocks_available(), f_.pool.blocks_total() - static_cast<int>(held.size()))
        << "a block leaked";
  }

  std::mt19937 random_;
  ContentStore::Contents content_;  // of blocks
  ContentStore store_;
  SchedulerFixture f_;
  int longest_ = 0;
  std::map<Sequence*, int> live_;    // ends with so many tokens
  std::set<const Sequence*> begun_;  // of which something was computed
};

// 100,000 steps and more; a tenth of them under sanitizers.
constexpr uint32_t part = is_sanitized ? 10 : 1;

TEST(SchedulerRandom, KeepsItsPromisesOverManySeeds) {
  uint64_t steps = 0;
  uint64_t preemptions = 0;
  uint32_t forks = 0;
  uint32_t copies = 0;
  uint32_t accepted = 0;
  uint64_t hits = 0;
  uint64_t paced_steps = 0;
  uint64_t spilled = 0;
  uint64_t restored = 0;
  for (uint32_t seed = 0; seed < 2000 / part; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomRun run(seed);
    run.run();
    if (HasFailure()) return;
    steps += run.steps;
    preemptions += run.preemptions;
    forks += run.forks;
    copies += run.copies;
    accepted += run.accepted;
    hits += run.hits;
    paced_steps += run.paced_steps;
    spilled += run.spilled;
    restored += run.restored;
  }
  // The runs must reach what they are there to test.
  EXPECT_GT(steps, 100000u / part);
  EXPECT_GT(preemptions, 1000u / part);
  EXPECT_GT(forks, 1000 / part);
  EXPECT_GT(copies, 300 / part);
  EXPECT_GT(accepted, 1000 / part);
  EXPECT_GT(hits, 1000u / part);
  EXPECT_GT(paced_steps, 10000u / part);
  EXPECT_GT(spilled, 10000u / part);
  EXPECT_GT(restored, 1000u / part);
}

// Groups that always have somebody waiting are served alike by cost and weight, whatever they send:
// of two, neither is ahead by more than twice what one can get that has no turn any more, which is
// its longest prompt or what all places decode until they are free again (Sheng et al., theorem
// 4.2). Checked after every step.
TEST(SchedulerRandom, ServesGroupsThatAlwaysWaitWithinABound) {
  uint64_t steps = 0;
  double widest = 0;
  for (uint32_t seed = 0; seed < 400 / part; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
    };
    const int max_sequences = pick(1, 6);
    const int longest_prompt = pick(1, 120);
    const int longest_answer = pick(1, 30);
    SchedulerFixture f(max_sequences * (longest_prompt + longest_answer),
                       {.step_tokens = max_sequences + pick(0, 60),
                        .max_sequences = max_sequences,
                        .block_tokens = 4,
                        .outputs = max_sequences + 8});
    const std::vector<std::string> groups = {"a", "b", "c"};
    std::map<std::string, int> waiting;
    std::map<Sequence*, int> live;  // ends with so many tokens
    const auto fill = [&] {
      for (size_t group = 0; group < groups.size(); ++group) {
        while (waiting[groups[group]] <= max_sequences) {  // also when it gets all places
          // Each group sends prompts and answers of its own lengths.
          const int prompt = pick(1, std::max(1, longest_prompt / static_cast<int>(group + 1)));
          Sequence& sequence =
              f.add(prompt, {.group = groups[group], .weight = 1.0 + static_cast<double>(group)});
          live[&sequence] = prompt + pick(1, longest_answer);
          ++waiting[groups[group]];
        }
      }
    };
    const double bound =
        2 * std::max(Scheduler::prompt_cost * longest_prompt,
                     Scheduler::decode_cost * max_sequences * (longest_prompt + longest_answer));
    fill();
    for (int step = 0; step < 150; ++step) {
      for (const auto& [s, end] : live) {
        s->draft.clear();
        const int room = end - static_cast<int>(s->tokens.size());
        if (s->state == Sequence::State::running && s->pending_tokens() == 1 && room > 1) {
          s->draft.assign(static_cast<size_t>(pick(0, std::min(3, room - 1))), 5);
        }
      }
      const Batch batch = f.scheduler.schedule(pick(1, 60));
      f.scheduler.complete(batch);
      for (const Chunk& chunk : batch) {
        if (!chunk.reaches_end) continue;
        for (int accepted = pick(0, chunk.drafts); accepted > 0; --accepted) {
          f.scheduler.accept_draft(*chunk.sequence, 5);
        }
        chunk.sequence->tokens.push_back(1);
        if (static_cast<int>(chunk.sequence->tokens.size()) < live.at(chunk.sequence)) continue;
        f.scheduler.remove(*chunk.sequence);
        live.erase(chunk.sequence);
      }
      for (auto& [group, count] : waiting) count = 0;
      for (const auto& [s, end] : live) {
        waiting[s->owner.group] += s->state == Sequence::State::waiting;
      }
      fill();
      for (const std::string& ahead : groups) {
        for (const std::string& behind : groups) {
          const double difference = f.scheduler.service(ahead) - f.scheduler.service(behind);
          ASSERT_LE(difference, bound) << ahead << " before " << behind;
          widest = std::max(widest, difference / bound);
        }
      }
      ++steps;
    }
  }
  EXPECT_GT(steps, 50000u / part);
  EXPECT_GT(widest, 0.05) << "the bound is too wide to say anything";
}

}  // namespace
}  // namespace ridge::engine::scheduler_random_test
