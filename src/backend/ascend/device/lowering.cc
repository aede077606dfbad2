#include "backend/ascend/device/lowering.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "backend/ascend/device/host_op.h"
#include "backend/ascend/device/linear_calls.h"
#include "backend/ascend/device/touched.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

const char* suffix_of(DType dtype) { return dtype == DType::bf16 ? "bf16" : "f16"; }

GatedActivationTiling::Kind kind_of(Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh: return GatedActivationTiling::gelu_tanh;
    case Activation::swiglu_oai: return GatedActivationTiling::swiglu_oai;
    case Activation::silu: break;
  }
  return GatedActivationTiling::silu;
}

class Lowering : private LinearCalls {
 public:
  using LinearCalls::LinearCalls;

  Plan lower() {
    const std::vector<Op>& ops = context_.recording.ops;
    for (size_t i = 0; i < ops.size(); ++i) {
      const Op& op = ops[i];
      free_scratch();
      if (is_on_host(op)) {
        plan_.actions.push_back(HostCall{&op});
      } else if (i + 1 < ops.size() && stores_what_rotates(op, ops[i + 1])) {
        rotate(std::get<Rope>(op), stored_by(ops[i + 1]));
        ++i;  // which writes no values
      } else {
        std::visit(*this, op);
      }
      for (const Value& value : touched_by(op).writes) forget_halves(value);
    }
    return std::move(plan_);
  }

  void operator()(const Embed& op) {
    const AscendWeight& table = as_ascend(*op.table);
    const View out = view(op.out);
    if (out.rows == 0) return;
    const DType dtype = table.table_dtype();
    if (is_quantized(dtype)) {
      const auto plan = plan_embed_quantized(
          soc_, table_row(quantized_format(dtype), out.columns), out.rows, out.columns, out.stride);
      call("ridge_embed_quantized", plan,
           {input(inputs().token_ids), table.table()->span().address, out.address});
      return;
    }
    if (dtype == DType::f32) {
      gather(input(inputs().token_ids), table.table()->span().address, out.columns, out);
      return;
    }
    const View rows = scratch(out.rows, out.columns, half_bytes);
    const uint32_t row = out.columns * half_bytes;
    const auto plan = plan_embed(soc_, {out.rows, row, row, row});
    call("ridge_embed", plan, {input(inputs().token_ids), table.table()->span().address,
                               rows.address});
    scale_rows(fmt::format("{}_f32", suffix_of(dtype)), half_bytes, float_bytes, rows, out);
  }

  void operator()(const RmsNorm& op) {
    const View out = view(op.out);
    if (out.rows == 0) return;
    View x = view(op.x);
    const AscendWeight& weight = as_ascend(*op.weight);
    const auto width = static_cast<uint32_t>(weight.columns());
    const uint32_t runs = x.columns / width;
    if (runs > 1) {
      // Runs of a row are rows of their own where all lie side by side.
      if (x.stride != x.columns) {
        copy(x, out);
        x = out;
      }
      x = {x.address, x.rows * runs, width, width};
    }
    const View to = runs == 1 ? out : View{out.address, out.rows * runs, width, width};
    norm(x, weight, op.eps, to);
  }

  void operator()(const AddRmsNorm& op) {
    const View x = view(op.x), residual = view(op.residual), out = view(op.out);
    if (x.rows == 0) return;
    const AscendWeight& weight = as_ascend(*op.weight);
    if (!fits_rms_norm(x.columns, float_bytes, /*adds=*/true)) {
      add(x, residual, residual);
      norm(residual, weight, op.eps, out);
      return;
    }
    const auto plan =
        plan_rms_norm(soc_, {{x.rows, x.columns, float_bytes}, x.stride, residual.stride,
                             out.stride, op.eps, /*adds=*/true});
    call("ridge_add_rms_norm_f32", plan,
         {x.address, residual.address, weight.vector().address, out.address});
  }

  void operator()(const QuantizeRows& op) {
    const View x = view(op.x);
    if (x.rows == 0) return;
    const uint64_t codes = storage_address(op.codes) + static_cast<uint64_t>(op.codes.column);
    const View scales = view(op.scales);
    const auto plan = plan_quantize_rows(soc_, {x.rows, x.columns, float_bytes}, x.stride,
                                         stride_of(op.codes));
    call("ridge_quantize_rows_f32", plan, {x.address, codes, scales.address});
  }

  void operator()(const Linear& op) {
    const View out = view(op.out);
    if (out.rows == 0) return;
    multiply(op.x, as_ascend(*op.weight), op.bias == nullptr ? nullptr : &as_ascend(*op.bias), out);
  }

  // Each head multiplies its run of x by its own weight: as many heads in a launch as the cube reads at
  // once.
  void operator()(const HeadLinear& op) {
    const View x = view(op.x), out = view(op.out);
    if (x.rows == 0) return;
    const AscendWeight& weight = as_ascend(*op.weight);
    const auto heads = static_cast<uint32_t>(weight.experts());
    const auto width = static_cast<uint32_t>(weight.columns());
    const auto out_width = static_cast<uint32_t>(weight.rows());
    if (weight.parts().size() != 1 || weight.takes_int8()) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("head_linear: the weights of heads of {} are of several types, or of int8 "
                              "for activations of int8",
                              weight.name()));
    }
    const WeightPart& part = weight.parts().front();
    const uint32_t padded = to_fractals_of(width);
    const uint32_t most_heads = std::max(1u, most_stride / padded);
    for (uint32_t first = 0; first < heads; first += most_heads) {
      free_scratch();
      const uint32_t count = std::min(most_heads, heads - first);
      const Halves halves = halve(runs_of(slice(x, first * width, count * width), width));
      const View to = slice(out, first * out_width, count * out_width);
      const View sums = is_dense(to) ? to : scratch(to.rows, to.columns, float_bytes);
      launch_linear(part, first,
                    {.m = x.rows,
                     .n = out_width,
                     .k = padded,
                     .x_stride = count * padded,
                     .out_stride = sums.stride,
                     .layout = LinearTiling::nz,
                     .out_floats = true,
                     .groups = count,
                     .grouping = LinearTiling::by_columns},
                    halves.values.address, sums.address);
      const View runs = {sums.address, sums.rows * count, out_width, out_width};
      scale_rows("f32_f32", float_bytes, float_bytes, runs, runs, part.factor, halves.scales);
      if (sums.address != to.address) copy(sums, to);
    }
  }

  void operator()(const LoraLinear& op) {
    const View x = view(op.x), out = view(op.out);
    if (x.rows == 0) return;
    const Rows rows = storage_of(op.x).rows;
    // All that multiply x come first, so that it is made halves of once.
    std::vector<View> inners(op.adapters.size());
    for (size_t i = 0; i < op.adapters.size(); ++i) {
      const Weight* down = op.adapters[i].down;
      if (down == nullptr) continue;
      inners[i] = scratch(x.rows, static_cast<uint32_t>(down->rows()), float_bytes);
      multiply(halve(op.x), as_ascend(*down), nullptr, inners[i]);
    }
    const View added = scratch(x.rows, out.columns, float_bytes);
    for (size_t i = 0; i < op.adapters.size(); ++i) {
      const Adapter& adapter = op.adapters[i];
      if (adapter.down == nullptr) continue;
      multiply(halve(inners[i]), as_ascend(*adapter.up), nullptr, added);
      // Nothing is added to the rows that have another adapter.
      scale_rows("f32_f32", float_bytes, float_bytes, added, added, adapter.scale,
                 context_.feeds.adapter_mask(rows, i).address);
      add(out, added, out);
    }
  }

  void operator()(const GatedActivation& op) {
    const View x = view(op.x), out = view(op.out);
    if (x.rows == 0) return;
    const auto groups = static_cast<uint32_t>(op.groups);
    const auto plan = plan_gated_activation(
        soc_, {{x.rows, out.columns / groups, float_bytes}, groups, x.stride, out.stride,
               kind_of(op.kind)});
    call("ridge_gated_activation_f32", plan, {x.address, out.address});
  }

  void operator()(const Rope& op) { rotate(op, std::nullopt); }
  void operator()(const StoreKv& op) { store(*stored_by(op)); }
  void operator()(const StoreLatent& op) { store(*stored_by(op)); }

  void operator()(const Attention& op) {
    const AscendKvCache& cache = as_ascend(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const View q = view(op.q), out = view(op.out);
    if (q.rows == 0 || key_.shape.sequences == 0) return;
    const char* type = suffix_of(layout.dtype);
    const auto heads = static_cast<uint32_t>(op.heads);
    const View q16 = narrowed(q, type, cache.key_dim(), heads);
    const View out16 = scratch(out.rows, heads * cache.value_dim(), half_bytes);
    const auto plan = plan_attention(
        soc_, {.sequences = static_cast<uint32_t>(key_.shape.sequences),
               .longest_query = static_cast<uint32_t>(key_.longest_query),
               .heads = heads,
               .kv_heads = cache.heads(),
               .key_dim = cache.key_dim(),
               .value_dim = cache.value_dim(),
               .q_stride = q16.stride,
               .out_stride = out16.stride,
               .blocks_per_sequence =
                   static_cast<uint32_t>(context_.recording.limits.blocks_per_sequence),
               .block_tokens = static_cast<uint32_t>(layout.block_tokens),
               .k_block_stride = cache.block_stride(),
               .k_token_stride = cache.key_row(),
               .v_block_stride = cache.block_stride(),
               .v_token_stride = cache.value_row(),
               .scale = op.scale,
               .window = static_cast<uint32_t>(op.window),
               .soft_cap = op.soft_cap,
               .has_sinks = op.sinks != nullptr,
               .batch_invariant = context_.recording.limits.batch_invariant});
    const uint64_t sinks =
        op.sinks == nullptr ? q16.address : as_ascend(*op.sinks).vector().address;
    call(fmt::format("ridge_attention_{}", type), plan,
         {q16.address, cache.keys_address(op.layer), cache.values_address(op.layer),
          input(inputs().query_starts), input(inputs().context_lengths),
          input(inputs().block_tables), sinks, out16.address});
    widen(out16, type, cache.value_dim(), out, heads);
  }

  void operator()(const MlaAttention& op) {
    const AscendKvCache& cache = as_ascend(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const View q_latent = view(op.q_latent), q_rope = view(op.q_rope), out = view(op.out);
    if (out.rows == 0 || key_.shape.sequences == 0) return;
    const char* type = suffix_of(layout.dtype);
    const auto heads = static_cast<uint32_t>(op.heads);
    const View latent16 = narrowed(q_latent, type, cache.value_dim(), heads);
    const View rope16 = narrowed(q_rope, type, cache.key_dim(), heads);
    const View out16 = scratch(out.rows, heads * cache.value_dim(), half_bytes);
    const auto plan = plan_mla_attention(
        soc_, {.sequences = static_cast<uint32_t>(key_.shape.sequences),
               .longest_query = static_cast<uint32_t>(key_.longest_query),
               .heads = heads,
               .latent_dim = cache.value_dim(),
               .rotary_dim = cache.key_dim(),
               .q_latent_stride = latent16.stride,
               .q_rope_stride = rope16.stride,
               .out_stride = out16.stride,
               .blocks_per_sequence =
                   static_cast<uint32_t>(context_.recording.limits.blocks_per_sequence),
               .block_tokens = static_cast<uint32_t>(layout.block_tokens),
               .latent_block_stride = cache.block_stride(),
               .latent_token_stride = cache.value_row(),
               .rotary_block_stride = cache.block_stride(),
               .rotary_token_stride = cache.key_row(),
               .scale = op.scale});
    call(fmt::format("ridge_mla_attention_{}", type), plan,
         {latent16.address, rope16.address, cache.values_address(op.layer),
          cache.keys_address(op.layer), input(inputs().query_starts),
          input(inputs().context_lengths), input(inputs().block_tables), out16.address});
    widen(out16, type, cache.value_dim(), out, heads);
  }

  void operator()(const Route& op) {
    const View logits = view(op.logits), ids = view(op.ids), weights = view(op.weights);
    if (logits.rows == 0) return;
    const Router& router = op.router;
    const auto plan = plan_route(
        soc_, {.row = {logits.rows, logits.columns, float_bytes},
               .top_k = static_cast<uint32_t>(router.top_k),
               .groups = static_cast<uint32_t>(router.groups),
               .top_groups = static_cast<uint32_t>(router.top_groups),
               .scoring = router.scoring == Router::Scoring::softmax ? RouteTiling::softmax
                                                                     : RouteTiling::sigmoid,
               .normalizes = router.normalize,
               .has_bias = router.selection_bias != nullptr,
               .scale = router.scale,
               .logits_stride = logits.stride,
               .ids_stride = ids.stride,
               .weights_stride = weights.stride});
    const uint64_t bias = router.selection_bias == nullptr
                              ? logits.address
                              : as_ascend(*router.selection_bias).vector().address;
    call("ridge_route_f32", plan, {logits.address, bias, ids.address, weights.address});
  }

  void operator()(const ExpertLinear& op) {
    const View x = view(op.x), ids = view(op.ids), out = view(op.out);
    if (x.rows == 0) return;
    const View weights = op.weights.valid() ? view(op.weights) : View{0, 0, ids.columns, ids.columns};
    const AscendWeight& weight = as_ascend(*op.weight);
    const auto width = static_cast<uint32_t>(weight.columns());
    const bool has_row_for_choice = x.columns != width;
    const auto rows_of_x = [&] {
      if (weight.takes_int8()) return quantize(has_row_for_choice ? runs_of(x, width) : x);
      return has_row_for_choice ? halve(runs_of(x, width)) : halve(op.x);
    };
    const Halves halves = rows_of_x();
    const uint32_t element_bytes = weight.takes_int8() ? 1 : half_bytes;
    const uint32_t rows_of_token = has_row_for_choice ? ids.columns : 1;
    const uint64_t used = scratch_used();
    // As many tokens at a time as one core sorts.
    const uint32_t most_tokens = std::max(1u, most_sorted_choices / ids.columns);
    for (uint32_t first = 0; first < x.rows; first += most_tokens) {
      free_scratch(used);
      const uint32_t count = std::min(most_tokens, x.rows - first);
      Halves part = halves;
      part.values.address +=
          uint64_t{first} * rows_of_token * halves.values.stride * element_bytes;
      part.scales += uint64_t{first} * rows_of_token * float_bytes;
      const View part_ids = some_rows(ids, first, count), to = some_rows(out, first, count);
      const View part_weights = op.weights.valid() ? some_rows(weights, first, count) : weights;
      multiply_by_experts(part, has_row_for_choice, weight, part_ids, part_weights, to);
      if (op.bias == nullptr) continue;
      free_scratch(used);
      add_expert_bias(as_ascend(*op.bias), part_ids, part_weights, to);
    }
  }

  void operator()(const TopK& op) {
    const View logits = view(op.logits);
    if (logits.rows == 0) return;
    const auto plan = plan_top_k(soc_, {{logits.rows, logits.columns, float_bytes},
                                        static_cast<uint32_t>(op.k), logits.stride});
    call("ridge_top_k_f32", plan,
         {logits.address, view(op.values).address, view(op.ids).address});
  }
  void operator()(const Sample& op) {
    const View logits = view(op.logits);
    if (logits.rows == 0) return;
    const auto plan =
        plan_top_k(soc_, {{logits.rows, logits.columns, float_bytes}, /*k=*/1, logits.stride});
    call("ridge_sample_f32", plan, {logits.address, view(op.ids).address});
  }

  void operator()(const Add& op) {
    const View a = view(op.a);
    if (a.rows > 0) add(a, view(op.b), view(op.out));
  }
  void operator()(const Scale& op) {
    const View x = view(op.x);
    if (x.rows > 0) scale_rows("f32_f32", float_bytes, float_bytes, x, view(op.out), op.factor);
  }
  void operator()(const GatherRows& op) {
    const View x = view(op.x), out = view(op.out);
    if (out.rows > 0) gather(input(inputs().output_rows), x.address, x.stride, out);
  }
  void operator()(const CopyBlocks& op) {
    plan_.actions.push_back(BlockCopies{&as_ascend(*op.cache)});
  }
  void operator()(const Communicate& op) {
    const View x = view(op.x);
    if (x.rows > 0) copy(x, view(op.out));
  }
 private:
  // A copy of rows of float32 in 16 bits, in scratch; behind each of their heads zeros up to `dim`.
  View narrowed(const View& x, const char* type, uint32_t dim, uint32_t heads) {
    const View to = scratch(x.rows, heads * dim, half_bytes);
    const std::string types = fmt::format("f32_{}", type);
    if (x.columns == to.columns) {
      scale_rows(types, float_bytes, half_bytes, x, to);
    } else {
      scale_rows(types, float_bytes, half_bytes, runs_of(x, x.columns / heads),
                 {to.address, to.rows * heads, dim, dim});
    }
    return to;
  }
  // The way back: `from` has heads of `dim` numbers in 16 bits.
  void widen(const View& from, const char* type, uint32_t dim, const View& out, uint32_t heads) {
    const std::string types = fmt::format("{}_f32", type);
    if (from.columns == out.columns) {
      scale_rows(types, half_bytes, float_bytes, from, out);
      return;
    }
    RIDGE_ASSERT(is_dense(out));
    const uint32_t width = out.columns / heads;
    scale_rows(types, half_bytes, float_bytes, {from.address, from.rows * heads, width, dim},
               {out.address, out.rows * heads, width, width});
  }

  // What goes to the cache; of latents, the rotary key is k and the latent v.
  struct Stored {
    KvCache* cache;
    int layer;
    Value k;
    Value v;
  };
  static std::optional<Stored> stored_by(const Op& op) {
    if (const auto* kv = std::get_if<StoreKv>(&op)) return Stored{kv->cache, kv->layer, kv->k, kv->v};
    if (const auto* latent = std::get_if<StoreLatent>(&op)) {
      return Stored{latent->cache, latent->layer, latent->rotary_key, latent->latent};
    }
    return std::nullopt;
  }

  // One launch does both where heads have no zeros behind them in the cache.
  static bool stores_what_rotates(const Op& op, const Op& next) {
    const auto* rope = std::get_if<Rope>(&op);
    const std::optional<Stored> stored = stored_by(next);
    if (rope == nullptr || !stored || is_on_host(next) || !rope->k.valid()) return false;
    const AscendKvCache& cache = as_ascend(*stored->cache);
    return stored->k.storage == rope->k.storage && stored->k.column == rope->k.column &&
           stored->k.columns == rope->k.columns &&
           static_cast<uint32_t>(rope->head_dim) == cache.key_dim() &&
           static_cast<uint32_t>(stored->k.columns) == cache.heads() * cache.key_dim() &&
           static_cast<uint32_t>(stored->v.columns) == cache.heads() * cache.value_dim();
  }

  void rotate(const Rope& op, const std::optional<Stored>& stored) {
    const View q = view(op.q);
    if (q.rows == 0) return;
    const View k = op.k.valid() ? view(op.k) : View{q.address, q.rows, 0, q.stride};
    const auto head_dim = static_cast<uint32_t>(op.head_dim);
    const Feeds::RopeTables tables = context_.feeds.rope(op.table);
    std::string kernel = "ridge_rope_store_kv_f32";
    RopeStoreKvShape shape{.block_tokens = 1};
    // Without a cache there are no values: what stands for both is not read.
    View v = k;
    const uint64_t numbers = context_.feeds.token_numbers().address;
    uint64_t slots = numbers, keys = q.address, values = q.address;
    if (stored) {
      const AscendKvCache& cache = as_ascend(*stored->cache);
      kernel += fmt::format("_{}", suffix_of(cache.layout().dtype));
      shape = stored_in(cache);
      v = view(stored->v);
      slots = input(inputs().slots);
      keys = cache.keys_address(stored->layer);
      values = cache.values_address(stored->layer);
    }
    shape.tokens = q.rows;
    shape.heads = q.columns / head_dim;
    shape.kv_heads = k.columns / head_dim;
    shape.head_dim = head_dim;
    shape.rotary_dim = static_cast<uint32_t>(op.table.inverse_frequencies.size()) * 2;
    shape.element_bytes = float_bytes;
    shape.q_stride = q.stride;
    shape.k_stride = k.stride;
    shape.v_stride = v.stride;
    call(kernel, plan_rope_store_kv(soc_, shape),
         {q.address, k.address, v.address, numbers, slots, tables.rotations.address,
          tables.partners.address, keys, values});
  }

  // Nothing is rotated: there are no queries, rotations and partners to read.
  void store(const Stored& stored) {
    const AscendKvCache& cache = as_ascend(*stored.cache);
    const View k = view(stored.k), v = view(stored.v);
    if (k.rows == 0) return;
    const char* type = suffix_of(cache.layout().dtype);
    const View k16 = narrowed(k, type, cache.key_dim(), cache.heads());
    const View v16 = narrowed(v, type, cache.value_dim(), cache.heads());
    RopeStoreKvShape shape = stored_in(cache);
    shape.tokens = k.rows;
    shape.kv_heads = cache.heads();
    shape.head_dim = cache.key_dim();
    shape.element_bytes = half_bytes;
    shape.q_stride = shape.k_stride = k16.stride;
    shape.v_stride = v16.stride;
    call(fmt::format("ridge_rope_store_kv_{}", type), plan_rope_store_kv(soc_, shape),
         {k16.address, k16.address, v16.address, input(inputs().positions), input(inputs().slots),
          k16.address, k16.address, cache.keys_address(stored.layer),
          cache.values_address(stored.layer)});
  }

  static RopeStoreKvShape stored_in(const AscendKvCache& cache) {
    return {.value_dim = cache.value_dim(),
            .stores = true,
            .block_tokens = static_cast<uint32_t>(cache.layout().block_tokens),
            .k_block_stride = cache.block_stride(),
            .k_token_stride = cache.key_row(),
            .v_block_stride = cache.block_stride(),
            .v_token_stride = cache.value_row()};
  }
};

}  // namespace

Plan lower(const LoweringContext& context, const PlanKey& key) {
  return Lowering(context, key).lower();
}

}  // namespace ridge::backend::ascend
