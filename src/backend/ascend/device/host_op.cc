#include "backend/ascend/device/host_op.h"

#include "backend/ascend/device/buffer.h"
#include "backend/ascend/device/kv_cache.h"
#include "backend/ascend/device/touched.h"
#include "backend/ascend/device/weight.h"
#include "backend/ascend/kernels/tiling_data.h"
#include "backend/reference/program.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

const Weight* host_of(const Weight* weight) {
  return weight == nullptr ? nullptr : &as_ascend(*weight).host();
}

// The op with what the reference knows in the place of the device's weights and caches.
struct OnHost {
  Op operator()(Embed op) const {
    op.table = host_of(op.table);
    return op;
  }
  Op operator()(StoreKv op) const {
    op.cache = &as_ascend(*op.cache).host();
    return op;
  }
  Op operator()(StoreLatent op) const {
    op.cache = &as_ascend(*op.cache).host();
    return op;
  }
  Op operator()(Attention op) const {
    op.cache = &as_ascend(*op.cache).host();
    op.sinks = host_of(op.sinks);
    return op;
  }
  Op operator()(MlaAttention op) const {
    op.cache = &as_ascend(*op.cache).host();
    return op;
  }
  Op operator()(CopyBlocks op) const {
    op.cache = &as_ascend(*op.cache).host();
    return op;
  }
  // Those without weights and caches.
  template <typename Other>
  Op operator()(const Other& op) const {
    return op;
  }
};

// Of Op, by type.
struct OnHostRule {
  bool operator()(const Embed& op) const { return as_ascend(*op.table).table() == nullptr; }
  bool operator()(const StoreKv& op) const { return !as_ascend(*op.cache).is_on_device(); }
  bool operator()(const StoreLatent& op) const { return !as_ascend(*op.cache).is_on_device(); }
  bool operator()(const Attention& op) const { return !as_ascend(*op.cache).is_on_device(); }
  bool operator()(const MlaAttention& op) const { return !as_ascend(*op.cache).is_on_device(); }
  bool operator()(const TopK& op) const { return op.k > static_cast<int>(most_top_k); }
  bool operator()(const CopyBlocks& op) const { return !as_ascend(*op.cache).is_on_device(); }
  bool operator()(const Communicate& op) const {
    if (op.x.columns == op.out.columns) return false;
    throw Error(ErrorCode::unsupported, "communicate: an Ascend device is a single rank here");
  }
  template <typename Other>
  bool operator()(const Other&) const {
    return false;
  }
};

Buffer* mirror_of(Buffer* buffer) {
  return buffer == nullptr ? nullptr : &static_cast<InputBuffer*>(buffer)->mirror();
}

StepBuffers mirrors_of(const StepBuffers& inputs) {
  return {.token_ids = mirror_of(inputs.token_ids),
          .positions = mirror_of(inputs.positions),
          .slots = mirror_of(inputs.slots),
          .query_starts = mirror_of(inputs.query_starts),
          .context_lengths = mirror_of(inputs.context_lengths),
          .block_tables = mirror_of(inputs.block_tables),
          .output_rows = mirror_of(inputs.output_rows),
          .adapter_of_row = mirror_of(inputs.adapter_of_row),
          .block_copies = mirror_of(inputs.block_copies)};
}

}  // namespace

bool is_on_host(const Op& op) { return std::visit(OnHostRule{}, op); }

void run_on_host(const Recording& recording, const Op& op, const StepShape& shape,
                 const acl::Context& context, const acl::DeviceSpan& memory, const Arena& arena) {
  const Touched touched = touched_by(op);
  // Storages of other ops are empty.
  Recording own{.limits = recording.limits,
                .inputs = mirrors_of(recording.inputs),
                .storages = std::vector<Storage>(recording.storages.size()),
                .ops = {std::visit(OnHost{}, op)},
                .outputs = {}};
  own.limits.tokens = shape.tokens;
  own.limits.outputs = shape.outputs;
  for (const auto* values : {&touched.reads, &touched.writes}) {
    for (const Value& value : *values) {
      const auto index = static_cast<size_t>(value.storage);
      own.storages[index] = recording.storages[index];
    }
  }
  reference::ReferenceProgram program(own);
  const auto span_of = [&](const Value& value) {
    const auto index = static_cast<size_t>(value.storage);
    return memory.part(arena.offsets[index], program.storage(value.storage).size_bytes());
  };
  const auto bytes_of = [&](const Value& value) {
    reference::HostBuffer& storage = program.storage(value.storage);
    return std::span(storage.host_data(), storage.size_bytes());
  };
  const auto is_whole = [&](const Value& value) {
    return value.columns == recording.storages[static_cast<size_t>(value.storage)].columns;
  };
  for (const Value& value : touched.reads) acl::download(context, bytes_of(value), span_of(value));
  // A part of a row's columns is written beside others that stay.
  for (const Value& value : touched.writes) {
    if (!is_whole(value)) acl::download(context, bytes_of(value), span_of(value));
  }
  program.run(shape);
  for (const Value& value : touched.writes) acl::upload(context, span_of(value), bytes_of(value));
}

}  // namespace ridge::backend::ascend
