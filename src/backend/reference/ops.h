#pragma once

#include <cstdint>
#include <span>

#include "backend/communicator.h"
#include "backend/ops.h"
#include "backend/reference/kv_cache.h"
#include "backend/reference/matrix.h"
#include "backend/reference/weight.h"

// The meaning of each op of backend/ops.h, whose comments hold; each is in the file of its name.
// Sums, exponentials and the like run in double, and each stored value rounds once to float32,
// except where a function says otherwise.
namespace ridge::backend::reference {

using Rows32 = Matrix<float>;
using Ids = Matrix<int32_t>;

void embed(std::span<const int32_t> ids, const ReferenceWeight& table, Rows32 out);
void rms_norm(Rows32 x, std::span<const float> weight, float eps, Rows32 out);
// The sum with the residual rounds to float32 before the norm reads it.
void add_rms_norm(Rows32 x, Rows32 residual, std::span<const float> weight, float eps, Rows32 out);

// Returns the scale, 0 for a row of zeros, whose codes are 0. Divides in float32.
float quantize_row(std::span<const float> x, std::span<int8_t> codes);
void quantize_rows(Rows32 x, Matrix<int8_t> codes, Rows32 scales);

// bias: [N], or empty for none.
void linear(Rows32 x, const ReferenceWeight& weight, std::span<const float> bias, Rows32 out);
void head_linear(Rows32 x, const ReferenceWeight& weight, Rows32 out);

struct ReferenceAdapter {
  const ReferenceWeight* down = nullptr;  // nullptr: nothing is added
  const ReferenceWeight* up = nullptr;
  float scale = 0;
};
void lora_linear(Rows32 x, std::span<const ReferenceAdapter> adapters,
                 std::span<const int32_t> adapter_of_row, Rows32 out);

void gated_activation(Rows32 x, Activation kind, int groups, Rows32 out);

// The angle p · frequency rounds to float32, as where the models were trained; its sine and cosine
// are then exact.
void rope(Rows32 x, std::span<const int32_t> positions, int head_dim, const RopeTable& table);

void store_kv(Rows32 k, Rows32 v, std::span<const int32_t> slots, ReferenceKvCache& cache,
              int layer);
void store_latent(Rows32 latent, Rows32 rotary_key, std::span<const int32_t> slots,
                  ReferenceKvCache& cache, int layer);

// The sequences of one step, as in StepBuffers.
struct Sequences {
  std::span<const int32_t> query_starts;     // [S + 1]
  std::span<const int32_t> context_lengths;  // [S]
  std::span<const int32_t> block_tables;     // [S, blocks_per_sequence]
  int blocks_per_sequence;

  int count() const { return static_cast<int>(context_lengths.size()); }
  // The slot of the token at `position` of a sequence.
  int slot(int sequence, int position, int block_tokens) const {
    const int block = block_tables[sequence * blocks_per_sequence + position / block_tokens];
    return block * block_tokens + position % block_tokens;
  }
};

struct AttentionParameters {
  int heads;
  float scale;
  int window;
  float soft_cap;
  std::span<const float> sinks;  // [heads], or empty
};
void attention(Rows32 q, const Sequences& sequences, const ReferenceKvCache& cache, int layer,
               const AttentionParameters& parameters, Rows32 out);
void mla_attention(Rows32 q_latent, Rows32 q_rope, const Sequences& sequences,
                   const ReferenceKvCache& cache, int layer, int heads, float scale, Rows32 out);

// Scores are compared in float32, so that the choice is the same wherever float32 is used.
void route(Rows32 logits, const Router& router, std::span<const float> selection_bias, Ids ids,
           Rows32 weights);
// weights.data may be null.
// bias: [experts · N], or empty
void expert_linear(Rows32 x, const ReferenceWeight& weight, std::span<const float> bias, Ids ids,
                   Rows32 weights, Rows32 out);

void add(Rows32 a, Rows32 b, Rows32 out);
void scale(Rows32 x, float factor, Rows32 out);
void gather_rows(Rows32 x, std::span<const int32_t> output_rows, Rows32 out);
// pairs: [copies, 2], from and to; done in order.
void copy_blocks(std::span<const int32_t> pairs, ReferenceKvCache& cache);
void top_k(Rows32 logits, Rows32 values, Ids ids);
void sample(Rows32 logits, Ids ids);
// Of what each rank gathers, in the order of ranks. communicator: nullptr for one rank alone.
void communicate(Rows32 x, const Communicate& op, Communicator* communicator, Rows32 out);

}  // namespace ridge::backend::reference
