#include "backend/cpu/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backend/cpu/packed_tokens.h"
#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

// ---------------------------------------------------------------- memory

void Arena::use(int storage, int step) {
  if (storage >= static_cast<int>(pieces_.size())) pieces_.resize(storage + 1);
  pieces_[storage].use_at(step);
}

void Arena::keep_to_end(int storage) {
  use(storage, pieces_[storage].last);
  pieces_[storage].last = INT32_MAX;
}

void Arena::allocate(const Recording& recording) {
  pieces_.resize(recording.storages.size());
  columns_.clear();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Storage& s = recording.storages[i];
    columns_.push_back(s.columns);
    const int rows = s.rows == Rows::tokens ? recording.limits.tokens : recording.limits.outputs;
    const size_t bytes = static_cast<size_t>(rows) * s.columns * row_bytes(s.dtype, 1);
    pieces_[i].bytes = (bytes + 63) / 64 * 64;
  }
  const MemoryPlaces places = place_by_first_fit(pieces_);
  memory_ = Memory(places.bytes);
  data_.assign(pieces_.size(), nullptr);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].first >= 0) data_[i] = memory_.data() + places.offsets[i];
  }
}

void* Arena::raw(Value value) const {
  return reinterpret_cast<float*>(data_[value.storage]) + value.column;
}

int8_t* Arena::codes_at(Value value) const {
  return reinterpret_cast<int8_t*>(data_[value.storage]) + value.column;
}

StepPointers::StepPointers(const Recording& recording)
    : blocks_per_sequence(recording.limits.blocks_per_sequence) {
  const auto view = [](Buffer* buffer) {
    return buffer == nullptr ? nullptr : reinterpret_cast<const int32_t*>(buffer->host_data());
  };
  const StepBuffers& in = recording.inputs;
  token_ids = view(in.token_ids);
  positions = view(in.positions);
  slots = view(in.slots);
  query_starts = view(in.query_starts);
  context_lengths = view(in.context_lengths);
  block_tables = view(in.block_tables);
  output_rows = view(in.output_rows);
  adapter_of_row = view(in.adapter_of_row);
  block_copies = view(in.block_copies);
}

// ---------------------------------------------------------------- fusion

namespace {

const CpuWeight* as_cpu(const Weight* weight) { return static_cast<const CpuWeight*>(weight); }

// Reads the ops in order and emits steps, looking ahead for what can be fused.
class Scheduler {
 public:
  Scheduler(const Recording& recording, int members, const KernelTable& kernels,
            LatentForm latent_form, Communicator* communicator)
      : recording_(recording),
        members_(members),
        kernels_(kernels),
        latent_form_(latent_form),
        communicator_(communicator),
        has_routers_(std::ranges::any_of(recording.ops, [](const Op& each) {
          return std::holds_alternative<Route>(each);
        })) {
    count_uses();
  }

  std::vector<std::unique_ptr<Step>> run() {
    collect_rope_tables();
    while (next_ < recording_.ops.size()) {
      std::visit([this](const auto& op) { emit(op); }, recording_.ops[next_]);
    }
    return std::move(steps_);
  }

 private:
  template <typename T>
  const T* peek(size_t ahead) const {
    const size_t at = next_ + ahead;
    return at < recording_.ops.size() ? std::get_if<T>(&recording_.ops[at]) : nullptr;
  }

  Rows rows_of(Value value) const { return recording_.storages[value.storage].rows; }

  static bool same(Value a, Value b) {
    return a.storage == b.storage && a.column == b.column && a.columns == b.columns;
  }

  // Whether nothing but its producer and one consumer touch the value.
  bool only_feeds_next(Value value) const { return uses_[value.storage] == 2; }

  void count(Value value) {
    if (value.valid()) ++uses_[value.storage];
  }

  void count_uses() {
    uses_.assign(recording_.storages.size(), 0);
    for (const Value& v : recording_.outputs) count(v);
    for (const Op& op : recording_.ops) {
      std::visit([this](const auto& o) { count_op(o); }, op);
    }
  }
  void count_op(const Embed& o) { count(o.out); }
  void count_op(const RmsNorm& o) { count(o.x), count(o.out); }
  void count_op(const AddRmsNorm& o) { count(o.x), count(o.residual), count(o.out); }
  void count_op(const QuantizeRows& o) { count(o.x), count(o.codes), count(o.scales); }
  void count_op(const Linear& o) { count(o.x), count(o.out); }
  void count_op(const HeadLinear& o) { count(o.x), count(o.out); }
  void count_op(const LoraLinear& o) { count(o.x), count(o.out); }
  void count_op(const GatedActivation& o) { count(o.x), count(o.out); }
  void count_op(const Rope& o) { count(o.q), count(o.k); }
  void count_op(const StoreKv& o) { count(o.k), count(o.v); }
  void count_op(const StoreLatent& o) { count(o.latent), count(o.rotary_key); }
  void count_op(const Attention& o) { count(o.q), count(o.out); }
  void count_op(const MlaAttention& o) { count(o.q_latent), count(o.q_rope), count(o.out); }
  void count_op(const Route& o) { count(o.logits), count(o.ids), count(o.weights); }
  void count_op(const ExpertLinear& o) { count(o.x), count(o.ids), count(o.weights), count(o.out); }
  void count_op(const Add& o) { count(o.a), count(o.b), count(o.out); }
  void count_op(const Scale& o) { count(o.x), count(o.out); }
  void count_op(const GatherRows& o) { count(o.x), count(o.out); }
  void count_op(const CopyBlocks&) {}
  void count_op(const TopK& o) { count(o.logits), count(o.values), count(o.ids); }
  void count_op(const Sample& o) { count(o.logits), count(o.ids); }
  void count_op(const Communicate& o) { count(o.x), count(o.out); }

  void push(std::unique_ptr<Step> step, size_t ops = 1) {
    step->index = static_cast<int>(steps_.size());
    steps_.push_back(std::move(step));
    next_ += ops;
  }

  [[noreturn]] void refuse() const {
    throw Error(ErrorCode::unsupported, fmt::format("the cpu back end has no kernel for {} yet",
                                                    name(recording_.ops[next_])));
  }

  void collect_rope_tables() {
    for (const Op& op : recording_.ops) {
      if (const auto* rope = std::get_if<Rope>(&op)) angles_for(rope->table);
    }
    if (tables_.empty()) return;
    for (auto& table : tables_) table->resize(recording_.limits.tokens);
    push(make_rope_angles_step(tables_), 0);
  }

  std::shared_ptr<RopeAngles> angles_for(const RopeTable& table) {
    for (auto& known : tables_) {
      const RopeTable& t = known->table();
      if (t.inverse_frequencies == table.inverse_frequencies && t.magnitude == table.magnitude) {
        return known;
      }
    }
    tables_.push_back(std::make_shared<RopeAngles>(table));
    return tables_.back();
  }

  // The linear at `ahead` (and an activation or a residual after it) fed by plan.x or its norm.
  void push_linear(LinearPlan plan, size_t ahead) {
    const Linear& linear = *peek<Linear>(ahead);
    plan.rows = rows_of(linear.x);
    plan.weight = as_cpu(linear.weight);
    plan.bias = as_cpu(linear.bias);
    plan.precision = linear.precision;
    plan.out = linear.out;
    size_t ops = ahead + 1;
    if (const auto* gated = peek<GatedActivation>(ops);
        gated != nullptr && gated->groups == 1 && same(gated->x, linear.out) &&
        only_feeds_next(linear.out) && linear.bias == nullptr && splits_into_strips(*plan.weight)) {
      plan.activation = gated->kind;
      plan.out = gated->out;
      ++ops;
      plan.out_packed = may_pass_packed(plan, peek<Linear>(ops));
      out_packed_ = plan.out_packed;
    } else if (const auto* add = peek<AddRmsNorm>(ops);
               add != nullptr && same(add->x, linear.out) && only_feeds_next(linear.out)) {
      plan.accumulate = true;
      plan.out = add->residual;
      residual_added_ = true;
    }
    push(make_linear_step(plan, recording_.limits, members_, kernels_), ops);
  }

  // Whether what the plan gives may stay packed for the linear that follows: it alone reads it, both may
  // round, packed it takes no more memory than its floats, and it fills groups of columns, whose rest nobody
  // would clear.
  bool may_pass_packed(const LinearPlan& plan, const Linear* next) const {
    if (kernels_.panel.product == nullptr || next == nullptr || !same(next->x, plan.out) ||
        !only_feeds_next(plan.out) || plan.precision == Precision::full ||
        next->precision == Precision::full || plan.out.columns % panel_group != 0) {
      return false;
    }
    const StepLimits& limits = recording_.limits;
    const int rows = plan.rows == Rows::tokens ? limits.tokens : limits.outputs;
    return PackedTokens::elements(rows, plan.out.columns, 1) * sizeof(bf16_bits) <=
           static_cast<size_t>(rows) * plan.out.columns * sizeof(float);
  }

  // Whether gate and up rows fall into strips of their own, so that one thread can have both.
  static bool splits_into_strips(const CpuWeight& weight) {
    if (weight.rows() / 2 % strip_rows != 0) return false;
    return std::all_of(weight.parts().begin(), weight.parts().end(),
                       [](const WeightPart& p) { return p.first_row % strip_rows == 0; });
  }

  void emit(const Embed& op) { push(make_embed_step(op)); }

  void emit(const RmsNorm& op) {
    if (feeds_linear(op.out) && op.weight->columns() == op.x.columns) {
      push_linear({.x = op.x, .norm = as_cpu(op.weight), .eps = op.eps}, 1);
    } else {
      push(make_rms_norm_step(op, rows_of(op.x)));
    }
  }

  void emit(const AddRmsNorm& op) {
    const bool added = std::exchange(residual_added_, false);
    const RmsNorm norm{op.residual, op.weight, op.eps, op.out};
    if (!added && !feeds_linear(op.out)) return push(make_add_rms_norm_step(op, rows_of(op.x)));
    if (!added) push(make_add_step(op.residual, op.x, op.residual, rows_of(op.x)), 0);
    emit(norm);
  }

  bool feeds_linear(Value norm_out) const {
    const auto* linear = peek<Linear>(1);
    return linear != nullptr && same(linear->x, norm_out) && only_feeds_next(norm_out);
  }

  void emit(const Linear& op) {
    push_linear({.x = op.x, .x_packed = std::exchange(out_packed_, false)}, 0);
  }
  void emit(const QuantizeRows& op) { push(make_quantize_rows_step(op, rows_of(op.x))); }
  void emit(const GatedActivation& op) { push(make_gated_activation_step(op, rows_of(op.x))); }

  void emit(const Rope& op) {
    if (const auto fused = peek_rotated_attention(0)) return push_attention(*fused, 3);
    push_attention({.rope = op, .angles = angles_for(op.table)}, 1);
  }
  void push_attention(const AttentionPlan& plan, size_t ops) {
    push(make_attention_step(plan, recording_.limits, kernels_), ops);
  }
  // RoPE → store → attention.
  std::optional<AttentionPlan> peek_rotated_attention(size_t ahead) {
    const Rope* rope = peek<Rope>(ahead);
    const auto store = peek_store(ahead + 1), attention = peek_attention(ahead + 2);
    if (rope == nullptr || !store || !attention || !rope->k.valid() ||
        !same(store->store->k, rope->k) || !same(attention->attention->q, rope->q) ||
        store->store->cache != attention->attention->cache ||
        store->store->layer != attention->attention->layer) {
      return std::nullopt;
    }
    return AttentionPlan{.rope = *rope,
                         .angles = angles_for(rope->table),
                         .store = store->store,
                         .attention = attention->attention,
                         .q_latent = attention->q_latent};
  }
  // Latent or not.
  std::optional<AttentionPlan> peek_store(size_t ahead) const {
    if (const auto* op = peek<StoreKv>(ahead)) return AttentionPlan{.store = *op};
    if (const auto* op = peek<StoreLatent>(ahead)) return plan_of(*op);
    return std::nullopt;
  }
  std::optional<AttentionPlan> peek_attention(size_t ahead) const {
    if (const auto* op = peek<Attention>(ahead)) return AttentionPlan{.attention = *op};
    if (const auto* op = peek<MlaAttention>(ahead)) return plan_of(*op);
    return std::nullopt;
  }
  static AttentionPlan plan_of(const StoreLatent& op) {
    return {.store = StoreKv{op.rotary_key, op.latent, op.cache, op.layer}};
  }
  static AttentionPlan plan_of(const MlaAttention& op) {
    return {.attention = Attention{.q = op.q_rope,
                                   .cache = op.cache,
                                   .layer = op.layer,
                                   .heads = op.heads,
                                   .scale = op.scale,
                                   .out = op.out},
            .q_latent = op.q_latent};
  }
  void emit(const StoreKv& op) {
    push(make_attention_step(AttentionPlan{.store = op}, recording_.limits, kernels_));
  }
  void emit(const Attention& op) {
    push(make_attention_step(AttentionPlan{.attention = op}, recording_.limits, kernels_));
  }

  void emit(const Add& op) { push(make_add_step(op.a, op.b, op.out, rows_of(op.a))); }
  void emit(const Scale& op) { push(make_scale_step(op, rows_of(op.x))); }
  void emit(const GatherRows& op) { push(make_gather_rows_step(op)); }
  void emit(const CopyBlocks& op) { push(make_copy_blocks_step(op)); }
  void emit(const TopK& op) { push(make_top_k_step(op, rows_of(op.logits))); }
  void emit(const Sample& op) { push(make_sample_step(op, rows_of(op.logits))); }
  void emit(const Communicate& op) {
    const int ranks = communicator_ == nullptr ? 1 : communicator_->ranks();
    const bool gathers = op.kind == Reduction::all_gather;
    if (gathers ? static_cast<int>(op.columns_of_rank.size()) != ranks : ranks > 1) refuse();
    if (ranks == 1) return push(make_copy_step(op.x, op.out, rows_of(op.x)));
    push(make_all_gather_step(op, rows_of(op.x), recording_.limits, *communicator_));
  }
  void emit(const HeadLinear& op) {
    if (!push_latent_attention(op)) push_head_linear(op, nullptr);
  }
  void push_head_linear(const HeadLinear& op, std::shared_ptr<const LatentForms> forms) {
    push(make_expert_step({.x = op.x,
                           .rows = rows_of(op.x),
                           .weight = as_cpu(op.weight),
                           .precision = op.precision,
                           .out = op.out,
                           .forms = std::move(forms)},
                          recording_.limits, kernels_));
  }
  // Latent attention between the head_linears that take queries into the latents' space and values out
  // of it; `up` is the first of these. False where it is not all there.
  bool push_latent_attention(const HeadLinear& up) {
    if (latent_form_ == LatentForm::absorbed || recording_.limits.batch_invariant) return false;
    auto attention = peek_rotated_attention(1);
    const auto* down = peek<HeadLinear>(4);
    if (!attention || down == nullptr || !attention->q_latent.valid() ||
        !same(attention->q_latent, up.out) || !same(attention->attention->out, down->x) ||
        !only_feeds_next(up.out) || !only_feeds_next(down->x)) {
      return false;
    }
    const Attention& op = *attention->attention;
    const LatentShape shape{.heads = op.heads,
                            .rank = static_cast<int>(up.weight->rows()),
                            .nope = static_cast<int>(up.weight->columns()),
                            .rotary = op.cache->layout().key_dim,
                            .value = static_cast<int>(down->weight->rows())};
    // Keys and values in bfloat16 would turn choices of the routers behind them (ADR 0033).
    const bool is_exact = has_routers_ || up.precision == Precision::full ||
                          down->precision == Precision::full;
    const auto forms = std::make_shared<LatentForms>(
        shape, latent_form_, is_exact ? Precision::full : Precision::bf16, kernels_);
    if (!forms->may_expand()) return false;
    attention->forms = forms;
    push_head_linear(up, forms);
    push_attention(*attention, 3);
    push(make_expanded_latent_step({.q_nope = up.x,
                                    .q_rotary = op.q,
                                    .key_up = as_cpu(up.weight),
                                    .value_up = as_cpu(down->weight),
                                    .cache = op.cache,
                                    .layer = op.layer,
                                    .scale = op.scale,
                                    .out = down->out,
                                    .forms = forms},
                                   recording_.limits, kernels_),
         0);
    push_head_linear(*down, forms);
    return true;
  }
  void emit(const LoraLinear& op) {
    push(make_lora_step(op, rows_of(op.x), recording_.limits, kernels_));
  }
  void emit(const StoreLatent& op) {
    push(make_attention_step(plan_of(op), recording_.limits, kernels_));
  }
  void emit(const MlaAttention& op) {
    push(make_attention_step(plan_of(op), recording_.limits, kernels_));
  }
  void emit(const Route& op) { push(make_route_step(op, rows_of(op.logits))); }
  void emit(const ExpertLinear& op) {
    ExpertPlan plan{.x = op.x,
                    .rows = rows_of(op.x),
                    .weight = as_cpu(op.weight),
                    .ids = op.ids,
                    .weights = op.weights,
                    .bias = as_cpu(op.bias),
                    .precision = op.precision,
                    .out = op.out};
    for (size_t later = next_ + 1; later < recording_.ops.size(); ++later) {
      const auto* follower = std::get_if<ExpertLinear>(&recording_.ops[later]);
      if (follower == nullptr || !same(follower->ids, op.ids)) continue;
      plan.followers.push_back(as_cpu(follower->weight));
    }
    size_t ops = 1;
    if (const auto* gated = peek<GatedActivation>(1);
        gated != nullptr && !op.weights.valid() && gated->groups == op.ids.columns &&
        same(gated->x, op.out) && only_feeds_next(op.out) && splits_into_strips(*plan.weight)) {
      plan.activation = gated->kind;
      plan.out = gated->out;
      ++ops;
    }
    push(make_expert_step(plan, recording_.limits, kernels_), ops);
  }

  const Recording& recording_;
  const int members_;
  const KernelTable& kernels_;
  const LatentForm latent_form_;
  Communicator* const communicator_;
  const bool has_routers_;
  std::vector<int> uses_;  // ops and outputs that name each storage
  std::vector<std::unique_ptr<Step>> steps_;
  RopeTables tables_;
  size_t next_ = 0;
  bool out_packed_ = false;      // the last linear leaves its results packed for the next
  bool residual_added_ = false;  // the last linear added into the next norm's residual
};

}  // namespace

std::vector<std::unique_ptr<Step>> make_schedule(const Recording& recording, int members,
                                                 const KernelTable& kernels,
                                                 LatentForm latent_form,
                                                 Communicator* communicator) {
  return Scheduler(recording, members, kernels, latent_form, communicator).run();
}

}  // namespace ridge::backend::cpu
