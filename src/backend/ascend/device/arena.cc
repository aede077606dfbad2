#include "backend/ascend/device/arena.h"

#include <algorithm>

#include "backend/ascend/device/touched.h"

namespace ridge::backend::ascend {

namespace {

constexpr uint64_t alignment = 512;

struct Life {
  int first = -1;  // ops
  int last = -1;
};

std::vector<Life> lives_of(const Recording& recording) {
  std::vector<Life> lives(recording.storages.size());
  const auto touch = [&](const Value& value, int op) {
    Life& life = lives[static_cast<size_t>(value.storage)];
    if (life.first < 0) life.first = op;
    life.last = std::max(life.last, op);
  };
  for (const Value& given : recording.given) touch(given, 0);  // before any op
  const auto count = static_cast<int>(recording.ops.size());
  for (int i = 0; i < count; ++i) {
    const Touched touched = touched_by(recording.ops[static_cast<size_t>(i)]);
    for (const Value& value : touched.reads) touch(value, i);
    for (const Value& value : touched.writes) touch(value, i);
  }
  for (const Value& output : recording.outputs) touch(output, count);
  return lives;
}

}  // namespace

int rows_of(const Storage& storage, const StepShape& shape) {
  return storage.rows == Rows::tokens ? shape.tokens : shape.outputs;
}

Arena lay_out_arena(const Recording& recording) {
  const std::vector<Life> lives = lives_of(recording);
  const StepShape most = {.tokens = recording.limits.tokens, .outputs = recording.limits.outputs};
  struct Placed {
    uint64_t begin, end;
    int last;
  };
  std::vector<Placed> placed;  // alive, by place
  std::vector<size_t> order;
  for (size_t i = 0; i < lives.size(); ++i) order.push_back(i);
  std::ranges::stable_sort(order, {}, [&](size_t i) { return lives[i].first; });
  Arena arena;
  arena.offsets.resize(lives.size());
  for (const size_t i : order) {
    const Storage& storage = recording.storages[i];
    const uint64_t bytes = row_bytes(storage.dtype, storage.columns) *
                           static_cast<uint64_t>(std::max(1, rows_of(storage, most)));
    const uint64_t size = (bytes + alignment - 1) / alignment * alignment;
    std::erase_if(placed, [&](const Placed& other) { return other.last < lives[i].first; });
    // The first gap that is wide enough.
    uint64_t begin = 0;
    auto before = placed.begin();
    for (; before != placed.end() && before->begin < begin + size; ++before) begin = before->end;
    arena.offsets[i] = begin;
    placed.insert(before, {begin, begin + size, lives[i].last});
    arena.bytes = std::max(arena.bytes, begin + size);
  }
  return arena;
}

}  // namespace ridge::backend::ascend
