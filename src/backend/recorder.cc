#include "backend/recorder.h"

#include <array>
#include <numeric>

#include "base/error.h"

namespace ridge::backend {

std::string_view name(const Op& op) {
  static constexpr std::array<std::string_view, std::variant_size_v<Op>> names = {
      "embed",        "rms_norm",  "add_rms_norm",  "quantize_rows",    "linear", "head_linear",
      "lora_linear",  "gated_activation", "rope",   "store_kv",         "store_latent",
      "attention",    "mla_attention",    "route",  "expert_linear",    "add",    "scale",
      "gather_rows",  "copy_blocks",      "top_k",  "sample",           "communicate"};
  return names[op.index()];
}

Recorder::Recorder(const StepLimits& limits, const StepBuffers& inputs, DType activation_dtype)
    : activation_dtype_(activation_dtype) {
  recording_.limits = limits;
  recording_.inputs = inputs;
}

Value Recorder::make(Rows rows, int columns, DType dtype) {
  recording_.storages.push_back({rows, columns, dtype});
  return {static_cast<int>(recording_.storages.size()) - 1, 0, columns};
}

Value Recorder::make_like(Value x, int columns) {
  return make(storage(x).rows, columns, activation_dtype_);
}

const Storage& Recorder::storage(Value value) const {
  RIDGE_ASSERT(value.valid() && value.storage < static_cast<int>(recording_.storages.size()));
  const Storage& s = recording_.storages[value.storage];
  RIDGE_ASSERT(value.column >= 0 && value.columns > 0 && value.column + value.columns <= s.columns);
  return s;
}

Value Recorder::embed(const Weight& table) {
  const Value out = make(Rows::tokens, static_cast<int>(table.columns()), activation_dtype_);
  recording_.ops.push_back(Embed{&table, out});
  return out;
}

Value Recorder::rms_norm(Value x, const Weight& weight, float eps) {
  const Value out = make_like(x, x.columns);
  rms_norm(x, weight, eps, out);
  return out;
}

void Recorder::rms_norm(Value x, const Weight& weight, float eps, Value out) {
  RIDGE_ASSERT(x.columns % weight.columns() == 0 && out.columns == x.columns);
  RIDGE_ASSERT(storage(x).rows == storage(out).rows);
  recording_.ops.push_back(RmsNorm{x, &weight, eps, out});
}

Value Recorder::add_rms_norm(Value x, Value residual, const Weight& weight, float eps) {
  RIDGE_ASSERT(weight.columns() == x.columns && residual.columns == x.columns);
  RIDGE_ASSERT(storage(x).rows == storage(residual).rows);
  const Value out = make_like(x, x.columns);
  recording_.ops.push_back(AddRmsNorm{x, residual, &weight, eps, out});
  return out;
}

Recorder::Quantized Recorder::quantize_rows(Value x) {
  const Rows rows = storage(x).rows;
  const Value codes = make(rows, x.columns, DType::i8);
  const Value scales = make(rows, 1, DType::f32);
  recording_.ops.push_back(QuantizeRows{x, codes, scales});
  return {codes, scales};
}

Value Recorder::linear(Value x, const Weight& weight, const Weight* bias, Precision precision) {
  RIDGE_ASSERT(weight.experts() == 1 && weight.columns() == x.columns);
  RIDGE_ASSERT(bias == nullptr || bias->columns() == weight.rows());
  const Value out = make_like(x, static_cast<int>(weight.rows()));
  recording_.ops.push_back(Linear{x, &weight, bias, precision, out});
  return out;
}

Value Recorder::head_linear(Value x, const Weight& weight, Precision precision) {
  RIDGE_ASSERT(weight.experts() * weight.columns() == x.columns);
  const Value out = make_like(x, static_cast<int>(weight.experts() * weight.rows()));
  recording_.ops.push_back(HeadLinear{x, &weight, precision, out});
  return out;
}

void Recorder::lora_linear(Value x, std::vector<Adapter> adapters, Value out) {
  for (const Adapter& adapter : adapters) {
    RIDGE_ASSERT((adapter.down == nullptr) == (adapter.up == nullptr));
    if (adapter.down == nullptr) continue;
    RIDGE_ASSERT(adapter.down->columns() == x.columns && adapter.up->rows() == out.columns);
    RIDGE_ASSERT(adapter.down->rows() == adapter.up->columns());
  }
  RIDGE_ASSERT(storage(x).rows == storage(out).rows);
  recording_.ops.push_back(LoraLinear{x, std::move(adapters), out});
}

Value Recorder::gated_activation(Value x, Activation kind, int groups) {
  RIDGE_ASSERT(groups >= 1 && x.columns % (2 * groups) == 0);
  const Value out = make_like(x, x.columns / 2);
  recording_.ops.push_back(GatedActivation{x, kind, groups, out});
  return out;
}

void Recorder::rope(Value q, Value k, int head_dim, const RopeTable& table) {
  const int rotary_dim = static_cast<int>(table.inverse_frequencies.size()) * 2;
  RIDGE_ASSERT(rotary_dim > 0 && rotary_dim <= head_dim && q.columns % head_dim == 0);
  RIDGE_ASSERT(!k.valid() || k.columns % head_dim == 0);
  RIDGE_ASSERT(storage(q).rows == Rows::tokens);
  recording_.ops.push_back(Rope{q, k, head_dim, table});
}

void Recorder::store_kv(Value k, Value v, KvCache& cache, int layer) {
  const KvCacheLayout& layout = cache.layout();
  RIDGE_ASSERT(layout.kind == KvCacheLayout::Kind::heads && layer < layout.layers);
  RIDGE_ASSERT(k.columns == layout.kv_heads * layout.key_dim);
  RIDGE_ASSERT(v.columns == layout.kv_heads * layout.value_dim);
  recording_.ops.push_back(StoreKv{k, v, &cache, layer});
}

void Recorder::store_latent(Value latent, Value rotary_key, KvCache& cache, int layer) {
  const KvCacheLayout& layout = cache.layout();
  RIDGE_ASSERT(layout.kind == KvCacheLayout::Kind::latent && layer < layout.layers);
  RIDGE_ASSERT(latent.columns == layout.value_dim && rotary_key.columns == layout.key_dim);
  recording_.ops.push_back(StoreLatent{latent, rotary_key, &cache, layer});
}

Value Recorder::attention(Value q, KvCache& cache, int layer, const AttentionOptions& options) {
  const KvCacheLayout& layout = cache.layout();
  RIDGE_ASSERT(layout.kind == KvCacheLayout::Kind::heads && layer < layout.layers);
  RIDGE_ASSERT(options.heads % layout.kv_heads == 0 && q.columns == options.heads * layout.key_dim);
  const Value out = make_like(q, options.heads * layout.value_dim);
  recording_.ops.push_back(Attention{q, &cache, layer, options.heads, options.scale, options.window,
                                     options.soft_cap, options.sinks, out});
  return out;
}

Value Recorder::mla_attention(Value q_latent, Value q_rope, KvCache& cache, int layer, int heads,
                              float scale) {
  const KvCacheLayout& layout = cache.layout();
  RIDGE_ASSERT(layout.kind == KvCacheLayout::Kind::latent && layer < layout.layers);
  RIDGE_ASSERT(q_latent.columns == heads * layout.value_dim);
  RIDGE_ASSERT(q_rope.columns == heads * layout.key_dim);
  const Value out = make_like(q_latent, heads * layout.value_dim);
  recording_.ops.push_back(MlaAttention{q_latent, q_rope, &cache, layer, heads, scale, out});
  return out;
}

Recorder::Routed Recorder::route(Value logits, const Router& router) {
  RIDGE_ASSERT(router.experts == logits.columns && router.top_k >= 1);
  RIDGE_ASSERT(router.top_k <= router.experts && router.experts % router.groups == 0);
  RIDGE_ASSERT(router.top_groups >= 1 && router.top_groups <= router.groups);
  const Rows rows = storage(logits).rows;
  const Value ids = make(rows, router.top_k, DType::i32);
  const Value weights = make(rows, router.top_k, DType::f32);
  recording_.ops.push_back(Route{logits, router, ids, weights});
  return {ids, weights};
}

Value Recorder::expert_linear(Value x, const Weight& weight, Value ids, Value weights,
                              Precision precision, const Weight* bias) {
  const int top_k = ids.columns;
  const auto columns = static_cast<int>(weight.columns());
  RIDGE_ASSERT(x.columns == columns || x.columns == top_k * columns);
  RIDGE_ASSERT(!weights.valid() || weights.columns == top_k);
  RIDGE_ASSERT(storage(x).rows == storage(ids).rows);
  RIDGE_ASSERT(bias == nullptr || bias->columns() == weight.experts() * weight.rows());
  const auto rows = static_cast<int>(weight.rows());
  const Value out = make_like(x, weights.valid() ? rows : top_k * rows);
  recording_.ops.push_back(ExpertLinear{x, &weight, ids, weights, bias, precision, out});
  return out;
}

Value Recorder::add(Value a, Value b) {
  RIDGE_ASSERT(a.columns == b.columns && storage(a).rows == storage(b).rows);
  const Value out = make_like(a, a.columns);
  recording_.ops.push_back(Add{a, b, out});
  return out;
}

Value Recorder::scale(Value x, float factor) {
  const Value out = make_like(x, x.columns);
  recording_.ops.push_back(Scale{x, factor, out});
  return out;
}

Value Recorder::gather_rows(Value x) {
  RIDGE_ASSERT(storage(x).rows == Rows::tokens);
  const Value out = make(Rows::outputs, x.columns, activation_dtype_);
  recording_.ops.push_back(GatherRows{x, out});
  return out;
}

void Recorder::copy_blocks(KvCache& cache) { recording_.ops.push_back(CopyBlocks{&cache}); }

Recorder::Top Recorder::top_k(Value logits, int k) {
  RIDGE_ASSERT(k >= 1 && k <= logits.columns);
  const Rows rows = storage(logits).rows;
  const Value values = make(rows, k, activation_dtype_);
  const Value ids = make(rows, k, DType::i32);
  recording_.ops.push_back(TopK{logits, k, values, ids});
  return {values, ids};
}

Value Recorder::sample(Value logits) {
  const Value ids = make(storage(logits).rows, 1, DType::i32);
  recording_.ops.push_back(Sample{logits, ids});
  return ids;
}

Value Recorder::all_reduce(Value x) {
  const Value out = make_like(x, x.columns);
  recording_.ops.push_back(Communicate{Reduction::all_reduce, x, out, {}});
  return out;
}

Value Recorder::all_gather(Value x, std::vector<int> columns_of_rank, int groups) {
  RIDGE_ASSERT(groups >= 1 && !columns_of_rank.empty() && x.columns % groups == 0);
  const int columns = std::accumulate(columns_of_rank.begin(), columns_of_rank.end(), 0);
  const Value out = make_like(x, groups * columns);
  recording_.ops.push_back(
      Communicate{Reduction::all_gather, x, out, std::move(columns_of_rank), groups});
  return out;
}

Value Recorder::all_to_all(Value x) {
  const Value out = make_like(x, x.columns);
  recording_.ops.push_back(Communicate{Reduction::all_to_all, x, out, {}});
  return out;
}

Value Recorder::blank(Rows rows, int columns) { return make(rows, columns, activation_dtype_); }

Value Recorder::given(Rows rows, int columns) {
  const Value value = blank(rows, columns);
  recording_.given.push_back(value);
  return value;
}

int Recorder::mark_output(Value value) {
  const Storage& s = storage(value);
  // A whole storage, so that the rows that a caller downloads are contiguous.
  RIDGE_ASSERT(value.column == 0 && value.columns == s.columns);
  recording_.outputs.push_back(value);
  return static_cast<int>(recording_.outputs.size()) - 1;
}

Recording Recorder::finish() { return std::move(recording_); }

}  // namespace ridge::backend
