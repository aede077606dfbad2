#include "backend/ascend/device/lowering.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "backend/ascend/device/host_op.h"
#include "backend/ascend/device/kernel_calls.h"
#include "backend/ascend/device/touched.h"
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

class Lowering : private KernelCalls {
 public:
  using KernelCalls::KernelCalls;

  Plan lower() {
    for (const Op& op : context_.recording.ops) {
      free_scratch();
      if (is_on_host(op)) {
        plan_.actions.push_back(HostCall{&op});
      } else {
        std::visit(*this, op);
      }
      for (const Value& value : touched_by(op).writes) {
        if (halved_ && halved_->storage == value.storage) halved_.reset();
      }
    }
    return std::move(plan_);
  }

  void operator()(const Embed& op) {
    const AscendWeight& table = as_ascend(*op.table);
    const View out = view(op.out);
    if (out.rows == 0) return;
    const DType dtype = table.table_dtype();
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
    multiply(halve(op.x), as_ascend(*op.weight), /*expert=*/0,
             op.bias == nullptr ? nullptr : &as_ascend(*op.bias), out);
  }

  void operator()(const HeadLinear& op) {
    const View x = view(op.x), out = view(op.out);
    if (x.rows == 0) return;
    const AscendWeight& weight = as_ascend(*op.weight);
    const auto heads = static_cast<uint32_t>(weight.experts());
    const uint32_t width = x.columns / heads, out_width = out.columns / heads;
    for (uint32_t head = 0; head < heads; ++head) {
      multiply(halve(slice(x, head * width, width)), weight, head, /*bias=*/nullptr,
               slice(out, head * out_width, out_width));
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
      multiply(halve(op.x), as_ascend(*down), /*expert=*/0, nullptr, inners[i]);
    }
    const View added = scratch(x.rows, out.columns, float_bytes);
    for (size_t i = 0; i < op.adapters.size(); ++i) {
      const Adapter& adapter = op.adapters[i];
      if (adapter.down == nullptr) continue;
      multiply(halve(inners[i]), as_ascend(*adapter.up), /*expert=*/0, nullptr, added);
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

  void operator()(const Rope& op) {
    const View q = view(op.q);
    if (q.rows == 0) return;
    const View k = op.k.valid() ? view(op.k) : View{q.address, q.rows, 0, q.stride};
    const auto head_dim = static_cast<uint32_t>(op.head_dim);
    const Feeds::RopeTables tables = context_.feeds.rope(op.table);
    const auto plan = plan_rope_store_kv(
        soc_, {.tokens = q.rows,
               .heads = q.columns / head_dim,
               .kv_heads = k.columns / head_dim,
               .head_dim = head_dim,
               .value_dim = 0,
               .rotary_dim = static_cast<uint32_t>(op.table.inverse_frequencies.size()) * 2,
               .element_bytes = float_bytes,
               .q_stride = q.stride,
               .k_stride = k.stride,
               .v_stride = k.stride,
               .stores = false,
               .block_tokens = 1,
               .k_block_stride = 0,
               .k_token_stride = 0,
               .v_block_stride = 0,
               .v_token_stride = 0});
    // There are no values and no cache: what stands for them is not read.
    const uint64_t numbers = context_.feeds.token_numbers().address;
    call("ridge_rope_store_kv_f32", plan,
         {q.address, k.address, k.address, numbers, numbers, tables.rotations.address,
          tables.partners.address, q.address, q.address});
  }

  void operator()(const StoreKv& op) {
    store(as_ascend(*op.cache), op.layer, view(op.k), view(op.v));
  }
  void operator()(const StoreLatent& op) {
    store(as_ascend(*op.cache), op.layer, view(op.rotary_key), view(op.latent));
  }

  void operator()(const Attention& op) {
    const AscendKvCache& cache = as_ascend(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const View q = view(op.q), out = view(op.out);
    if (q.rows == 0 || key_.shape.sequences == 0) return;
    const char* type = suffix_of(layout.dtype);
    const View q16 = narrowed(q, type);
    const View out16 = scratch(out.rows, out.columns, half_bytes);
    const auto plan = plan_attention(
        soc_, {.sequences = static_cast<uint32_t>(key_.shape.sequences),
               .longest_query = static_cast<uint32_t>(key_.longest_query),
               .heads = static_cast<uint32_t>(op.heads),
               .kv_heads = static_cast<uint32_t>(layout.kv_heads),
               .key_dim = static_cast<uint32_t>(layout.key_dim),
               .value_dim = static_cast<uint32_t>(layout.value_dim),
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
               .has_sinks = op.sinks != nullptr});
    const uint64_t sinks =
        op.sinks == nullptr ? q16.address : as_ascend(*op.sinks).vector().address;
    call(fmt::format("ridge_attention_{}", type), plan,
         {q16.address, cache.keys_address(op.layer), cache.values_address(op.layer),
          input(inputs().query_starts), input(inputs().context_lengths),
          input(inputs().block_tables), sinks, out16.address});
    scale_rows(fmt::format("{}_f32", type), half_bytes, float_bytes, out16, out);
  }

  void operator()(const MlaAttention& op) {
    const AscendKvCache& cache = as_ascend(*op.cache);
    const KvCacheLayout& layout = cache.layout();
    const View q_latent = view(op.q_latent), q_rope = view(op.q_rope), out = view(op.out);
    if (out.rows == 0 || key_.shape.sequences == 0) return;
    const char* type = suffix_of(layout.dtype);
    const View latent16 = narrowed(q_latent, type), rope16 = narrowed(q_rope, type);
    const View out16 = scratch(out.rows, out.columns, half_bytes);
    const auto plan = plan_mla_attention(
        soc_, {.sequences = static_cast<uint32_t>(key_.shape.sequences),
               .longest_query = static_cast<uint32_t>(key_.longest_query),
               .heads = static_cast<uint32_t>(op.heads),
               .latent_dim = static_cast<uint32_t>(layout.value_dim),
               .rotary_dim = static_cast<uint32_t>(layout.key_dim),
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
    scale_rows(fmt::format("{}_f32", type), half_bytes, float_bytes, out16, out);
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
  // Those that is_on_host sends there.
  template <typename Other>
  void operator()(const Other&) {
    RIDGE_ASSERT(!"an op without a kernel");
  }

 private:
  // A copy of rows of float32 in 16 bits, in scratch.
  View narrowed(const View& x, const char* type) {
    const View to = scratch(x.rows, x.columns, half_bytes);
    scale_rows(fmt::format("f32_{}", type), float_bytes, half_bytes, x, to);
    return to;
  }
  void store(const AscendKvCache& cache, int layer, const View& k, const View& v) {
    const KvCacheLayout& layout = cache.layout();
    if (k.rows == 0) return;
    const char* type = suffix_of(layout.dtype);
    const View k16 = narrowed(k, type), v16 = narrowed(v, type);
    const auto plan = plan_rope_store_kv(
        soc_, {.tokens = k.rows,
               .heads = 0,
               .kv_heads = cache.key_row() / static_cast<uint32_t>(layout.key_dim),
               .head_dim = static_cast<uint32_t>(layout.key_dim),
               .value_dim = static_cast<uint32_t>(layout.value_dim),
               .rotary_dim = 0,
               .element_bytes = half_bytes,
               .q_stride = k16.stride,
               .k_stride = k16.stride,
               .v_stride = v16.stride,
               .stores = true,
               .block_tokens = static_cast<uint32_t>(layout.block_tokens),
               .k_block_stride = cache.block_stride(),
               .k_token_stride = cache.key_row(),
               .v_block_stride = cache.block_stride(),
               .v_token_stride = cache.value_row()});
    // Nothing is rotated: there are no queries, rotations and partners to read.
    call(fmt::format("ridge_rope_store_kv_{}", type), plan,
         {k16.address, k16.address, v16.address, input(inputs().positions), input(inputs().slots),
          k16.address, k16.address, cache.keys_address(layer), cache.values_address(layer)});
  }

  // Several linears in a row multiply the same value.
  Halves halve(const Value& x) {
    if (!halved_ || halved_->storage != x.storage || halved_->column != x.column ||
        halved_->columns != x.columns) {
      halve(view(x));
      halved_ = x;
    }
    return halves_of(view(x));
  }
  Halves halve(const View& x) {
    halved_.reset();
    const Halves halves = halves_of(x);
    plan_.halves_bytes = std::max(
        plan_.halves_bytes, uint64_t{x.rows} * halves.values.stride * half_bytes);
    plan_.scales_bytes = std::max(plan_.scales_bytes, uint64_t{x.rows} * float_bytes);
    const auto plan =
        plan_halve_rows(soc_, x.rows, x.columns, x.stride, halves.values.stride);
    call("ridge_halve_rows", plan, {x.address, halves.values.address, halves.scales});
    return halves;
  }
  Halves halves_of(const View& x) const {
    return {{context_.memory.halves.address, x.rows, x.columns, to_fractals_of(x.columns)},
            context_.memory.scales.address};
  }

  // out = x Wᵀ + bias: each part of W by its kernel, then scales and bias over its columns.
  void multiply(const Halves& x, const AscendWeight& weight, int64_t expert,
                const AscendWeight* bias, const View& out) {
    const std::span<const WeightPart> parts = weight.parts(expert);
    for (const WeightPart& part : parts) {
      const View to = slice(out, part.first_row, part.rows);
      const LinearShape shape = {x.values.rows,   part.rows,  x.values.columns,
                                 x.values.stride, to.stride,  LinearTiling::nz,
                                 /*out_floats=*/true};
      const uint64_t codes = part.codes->span().address;
      if (!part.format) {
        call("ridge_linear_f16", plan_linear(soc_, shape), {x.values.address, codes, to.address});
      } else {
        const QuantizedLinearPlan plan = plan_quantized_linear(soc_, shape, *part.format);
        call(plan.kernel, plan,
             {x.values.address, codes, part.scales->span().address, to.address});
      }
    }
    const auto finish = [&](const View& to, uint32_t first, float factor) {
      const uint64_t from =
          bias == nullptr ? 0 : bias->vector().address + uint64_t{first} * float_bytes;
      scale_rows("f32_f32", float_bytes, float_bytes, to, to, factor, x.scales, from);
    };
    const float factor = parts.front().factor;
    if (std::ranges::all_of(parts, [&](const auto& part) { return part.factor == factor; })) {
      finish(out, 0, factor);
      return;
    }
    for (const WeightPart& part : parts) {
      finish(slice(out, part.first_row, part.rows), part.first_row, part.factor);
    }
  }

  std::optional<Value> halved_;  // what the halves are of
};

}  // namespace

Plan lower(const LoweringContext& context, const PlanKey& key) {
  return Lowering(context, key).lower();
}

}  // namespace ridge::backend::ascend
