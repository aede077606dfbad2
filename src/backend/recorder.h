#pragma once

#include "backend/ops.h"

namespace ridge::backend {

// What a model family calls: each method checks shapes, appends one op and returns the value that it
// makes. A shape that does not fit is a bug of the family, and an assertion.
class Recorder {
 public:
  Recorder(const StepLimits& limits, const StepBuffers& inputs, DType activation_dtype);

  Value embed(const Weight& table);                                          // [T, H]
  Value rms_norm(Value x, const Weight& weight, float eps);  // as x; each run of weight.columns()
  void rms_norm(Value x, const Weight& weight, float eps, Value out);
  Value add_rms_norm(Value x, Value residual, const Weight& weight, float eps);
  struct Quantized {
    Value codes, scales;
  };
  Quantized quantize_rows(Value x);
  Value linear(Value x, const Weight& weight, const Weight* bias = nullptr,
               Precision precision = Precision::full);  // [rows, N]
  Value head_linear(Value x, const Weight& weight,
                    Precision precision = Precision::full);  // [T, heads · N]
  void lora_linear(Value x, std::vector<Adapter> adapters, Value out);
  Value gated_activation(Value x, Activation kind, int groups = 1);           // [T, groups · F]
  void rope(Value q, Value k, int head_dim, const RopeTable& table);          // in place
  void store_kv(Value k, Value v, KvCache& cache, int layer);
  void store_latent(Value latent, Value rotary_key, KvCache& cache, int layer);
  struct AttentionOptions {
    int heads;
    float scale;
    int window = 0;
    float soft_cap = 0.0f;
    const Weight* sinks = nullptr;
  };
  Value attention(Value q, KvCache& cache, int layer, const AttentionOptions& options);
  Value mla_attention(Value q_latent, Value q_rope, KvCache& cache, int layer, int heads,
                      float scale);
  struct Routed {
    Value ids, weights;
  };
  Routed route(Value logits, const Router& router);
  // `weights` invalid: [T, top_k · N]; else their weighted sum, [T, N].
  Value expert_linear(Value x, const Weight& weight, Value ids, Value weights = {},
                      Precision precision = Precision::full, const Weight* bias = nullptr);
  Value add(Value a, Value b);
  Value scale(Value x, float factor);
  Value gather_rows(Value x);  // [R, H]
  void copy_blocks(KvCache& cache);
  struct Top {
    Value values, ids;
  };
  Top top_k(Value logits, int k);
  Value sample(Value logits);
  Value all_reduce(Value x);
  // As Communicate says; x has groups · columns_of_rank[this rank] columns.
  Value all_gather(Value x, std::vector<int> columns_of_rank, int groups = 1);
  Value all_to_all(Value x);

  // Rows that ops write by column slices.
  Value blank(Rows rows, int columns);
  // Rows that the host fills before each run, as Program::given(index of the call).
  Value given(Rows rows, int columns);
  // The value's buffer can be read after a run as Program::output(returned index).
  int mark_output(Value value);

  Recording finish();

 private:
  Value make(Rows rows, int columns, DType dtype);
  Value make_like(Value x, int columns);
  const Storage& storage(Value value) const;

  DType activation_dtype_;
  Recording recording_;
};

}  // namespace ridge::backend
