#include "backend/reference/program.h"

#include <fmt/format.h>

#include <variant>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

size_t row_limit(const StepLimits& limits, Rows rows) {
  return rows == Rows::tokens ? limits.tokens : limits.outputs;
}

// One replay: resolves values and step buffers for the rows that `shape` says, and calls the ops.
class Step {
 public:
  Step(const Recording& recording, Communicator* communicator, std::vector<HostBuffer>& storages,
       const StepShape& shape)
      : recording_(recording), communicator_(communicator), storages_(storages), shape_(shape) {}

  void operator()(const Embed& op) {
    embed(tokens(inputs().token_ids), as_reference(*op.table), rows(op.out));
  }
  void operator()(const RmsNorm& op) {
    rms_norm(rows(op.x), vector(op.weight), op.eps, rows(op.out));
  }
  void operator()(const AddRmsNorm& op) {
    add_rms_norm(rows(op.x), rows(op.residual), vector(op.weight), op.eps, rows(op.out));
  }
  void operator()(const QuantizeRows& op) {
    quantize_rows(rows(op.x), rows<int8_t>(op.codes), rows(op.scales));
  }
  void operator()(const Linear& op) {
    linear(rows(op.x), as_reference(*op.weight), vector(op.bias), rows(op.out));
  }
  void operator()(const HeadLinear& op) {
    head_linear(rows(op.x), as_reference(*op.weight), rows(op.out));
  }
  void operator()(const LoraLinear& op) {
    std::vector<ReferenceAdapter> adapters;
    for (const Adapter& a : op.adapters) {
      adapters.push_back(a.down == nullptr
                             ? ReferenceAdapter{}
                             : ReferenceAdapter{&as_reference(*a.down), &as_reference(*a.up),
                                                a.scale});
    }
    lora_linear(rows(op.x), adapters, adapters_of_rows(op.x), rows(op.out));
  }
  void operator()(const GatedActivation& op) {
    gated_activation(rows(op.x), op.kind, op.groups, rows(op.out));
  }
  void operator()(const Rope& op) {
    const auto positions = tokens(inputs().positions);
    rope(rows(op.q), positions, op.head_dim, op.table);
    if (op.k.valid()) rope(rows(op.k), positions, op.head_dim, op.table);
  }
  void operator()(const StoreKv& op) {
    store_kv(rows(op.k), rows(op.v), tokens(inputs().slots), as_reference(*op.cache), op.layer);
  }
  void operator()(const StoreLatent& op) {
    store_latent(rows(op.latent), rows(op.rotary_key), tokens(inputs().slots),
                 as_reference(*op.cache), op.layer);
  }
  void operator()(const Attention& op) {
    attention(rows(op.q), sequences(), as_reference(*op.cache), op.layer,
              {op.heads, op.scale, op.window, op.soft_cap, vector(op.sinks)}, rows(op.out));
  }
  void operator()(const MlaAttention& op) {
    mla_attention(rows(op.q_latent), rows(op.q_rope), sequences(), as_reference(*op.cache),
                  op.layer, op.heads, op.scale, rows(op.out));
  }
  void operator()(const Route& op) {
    route(rows(op.logits), op.router, vector(op.router.selection_bias), rows<int32_t>(op.ids),
          rows(op.weights));
  }
  void operator()(const ExpertLinear& op) {
    expert_linear(rows(op.x), as_reference(*op.weight), vector(op.bias), rows<int32_t>(op.ids),
                  op.weights.valid() ? rows(op.weights) : Rows32{}, rows(op.out));
  }
  void operator()(const Add& op) { add(rows(op.a), rows(op.b), rows(op.out)); }
  void operator()(const Scale& op) { scale(rows(op.x), op.factor, rows(op.out)); }
  void operator()(const GatherRows& op) {
    gather_rows(rows(op.x), integers(inputs().output_rows, shape_.outputs), rows(op.out));
  }
  void operator()(const CopyBlocks& op) {
    copy_blocks(integers(inputs().block_copies, shape_.block_copies * 2), as_reference(*op.cache));
  }
  void operator()(const TopK& op) {
    top_k(rows(op.logits), rows(op.values), rows<int32_t>(op.ids));
  }
  void operator()(const Sample& op) { sample(rows(op.logits), rows<int32_t>(op.ids)); }
  void operator()(const Communicate& op) {
    communicate(rows(op.x), op, communicator_, rows(op.out));
  }

 private:
  const StepBuffers& inputs() const { return recording_.inputs; }

  template <typename T = float>
  Matrix<T> rows(Value value) {
    const Storage& storage = recording_.storages[value.storage];
    RIDGE_ASSERT(sizeof(T) == traits(storage.dtype).block_bytes);
    T* data = reinterpret_cast<T*>(storages_[value.storage].host_data()) + value.column;
    const int count = storage.rows == Rows::tokens ? shape_.tokens : shape_.outputs;
    return {data, count, value.columns, storage.columns};
  }

  std::span<const float> vector(const Weight* weight) const {
    if (weight == nullptr) return {};
    return as_reference(*weight).vector();
  }

  std::span<const int32_t> integers(Buffer* buffer, int count) const {
    if (count == 0) return {};
    RIDGE_ASSERT(buffer != nullptr && buffer->size_bytes() >= count * sizeof(int32_t));
    return {reinterpret_cast<const int32_t*>(buffer->host_data()), static_cast<size_t>(count)};
  }
  std::span<const int32_t> tokens(Buffer* buffer) const { return integers(buffer, shape_.tokens); }

  std::vector<int32_t> adapters_of_rows(Value value) const {
    const auto of_tokens = tokens(inputs().adapter_of_row);
    if (recording_.storages[value.storage].rows == Rows::tokens) {
      return {of_tokens.begin(), of_tokens.end()};
    }
    std::vector<int32_t> of_outputs;
    for (const int32_t row : integers(inputs().output_rows, shape_.outputs)) {
      of_outputs.push_back(of_tokens[row]);
    }
    return of_outputs;
  }

  Sequences sequences() const {
    const int width = recording_.limits.blocks_per_sequence;
    return {integers(inputs().query_starts, shape_.sequences + 1),
            integers(inputs().context_lengths, shape_.sequences),
            integers(inputs().block_tables, shape_.sequences * width), width};
  }

  const Recording& recording_;
  Communicator* const communicator_;
  std::vector<HostBuffer>& storages_;
  const StepShape& shape_;
};

}  // namespace

ReferenceProgram::ReferenceProgram(const Recording& recording, Communicator* communicator)
    : recording_(recording), communicator_(communicator) {
  const int ranks = communicator == nullptr ? 1 : communicator->ranks();
  for (const Op& op : recording_.ops) {
    const auto* collective = std::get_if<Communicate>(&op);
    if (collective == nullptr) continue;
    const bool gathers = collective->kind == Reduction::all_gather;
    if (gathers ? static_cast<int>(collective->columns_of_rank.size()) != ranks : ranks > 1) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("communicate: no such collective over the {} ranks of this device",
                              ranks));
    }
  }
  for (const Storage& storage : recording_.storages) {
    storages_.emplace_back(row_limit(recording_.limits, storage.rows) *
                           row_bytes(storage.dtype, storage.columns));
  }
}

const Buffer& ReferenceProgram::output(int index) const {
  return storages_[recording_.outputs.at(index).storage];
}

Buffer& ReferenceProgram::given(int index) {
  return storages_[recording_.given.at(index).storage];
}

uint64_t ReferenceProgram::arena_bytes() const {
  uint64_t total = 0;
  for (const HostBuffer& storage : storages_) total += storage.size_bytes();
  return total;
}

void ReferenceProgram::run(const StepShape& shape) {
  const StepLimits& limits = recording_.limits;
  RIDGE_ASSERT(shape.tokens >= 0 && shape.tokens <= limits.tokens);
  RIDGE_ASSERT(shape.sequences >= 0 && shape.sequences <= limits.sequences);
  RIDGE_ASSERT(shape.outputs >= 0 && shape.outputs <= limits.outputs);
  RIDGE_ASSERT(shape.block_copies >= 0 && shape.block_copies <= limits.block_copies);
  Step step(recording_, communicator_, storages_, shape);
  for (const Op& op : recording_.ops) std::visit(step, op);
}

}  // namespace ridge::backend::reference
