#include "backend/ascend/device/arena.h"

#include <algorithm>

#include "backend/ascend/device/touched.h"
#include "backend/ascend/tiling_sizes.h"
#include "backend/first_fit.h"

namespace ridge::backend::ascend {

int rows_of(const Storage& storage, const StepShape& shape) {
  return storage.rows == Rows::tokens ? shape.tokens : shape.outputs;
}

int most_rows_of(Rows rows, const StepLimits& limits) {
  return std::max(1, rows == Rows::tokens ? limits.tokens : limits.outputs);
}

Arena lay_out_arena(const Recording& recording) {
  std::vector<MemoryPiece> pieces;
  for (const Storage& storage : recording.storages) {
    const uint64_t bytes = row_bytes(storage.dtype, storage.columns) *
                           static_cast<uint64_t>(most_rows_of(storage.rows, recording.limits));
    pieces.push_back({.bytes = up_to(bytes, memory_alignment)});
  }
  const auto use = [&](const Value& value, int time) {
    pieces[static_cast<size_t>(value.storage)].use_at(time);
  };
  for (const Value& given : recording.given) use(given, 0);  // before any op
  const auto count = static_cast<int>(recording.ops.size());
  for (int i = 0; i < count; ++i) {
    const Touched touched = touched_by(recording.ops[static_cast<size_t>(i)]);
    for (const Value& value : touched.reads) use(value, i);
    for (const Value& value : touched.writes) use(value, i);
  }
  for (const Value& output : recording.outputs) use(output, count);
  MemoryPlaces places = place_by_first_fit(pieces);
  return {std::move(places.offsets), places.bytes};
}

}  // namespace ridge::backend::ascend
